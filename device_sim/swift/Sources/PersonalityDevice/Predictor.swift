import CoreML

/// Text to latent and logits, through `TextEncoder` and `PersonalityModel`.
public struct Predictor {
    public let wordPiece: WordPiece
    public let encoder: MLModel
    public let model: MLModel

    public init(wordPiece: WordPiece, encoder: MLModel, model: MLModel) {
        (self.wordPiece, self.encoder, self.model) = (wordPiece, encoder, model)
    }

    /// (1536)
    public func embedding(of text: String) throws -> [Float] {
        let ids = wordPiece.ids(of: text)
        let mask = [Int32](repeating: 1, count: ids.count)
        return try output("embedding", of: encoder, ["input_ids": row(ids), "attention_mask": row(mask)])
    }

    /// The latent (512), input of the head, and the logits (325).
    public func predict(_ embedding: [Float]) throws -> (latent: [Float], logits: [Float]) {
        let found = try model.prediction(from: features(["embedding": row(embedding)]))
        return (try scalars("latent", in: found), try scalars("logits", in: found))
    }
}

/// The largest logits first; of equal ones, the lower index.
public func top(_ count: Int, of logits: [Double]) -> [Int] {
    let order = logits.indices.sorted { (-logits[$0], $0) < (-logits[$1], $1) }
    return Array(order.prefix(count))
}

func row<Scalar: MLShapedArrayScalar>(_ values: [Scalar]) -> MLMultiArray {
    MLMultiArray(MLShapedArray<Scalar>(scalars: values, shape: [1, values.count]))
}

func features(_ arrays: [String: MLMultiArray]) throws -> MLFeatureProvider {
    try MLDictionaryFeatureProvider(dictionary: arrays)
}

func output(_ name: String, of model: MLModel, _ inputs: [String: MLMultiArray]) throws -> [Float] {
    try scalars(name, in: model.prediction(from: features(inputs)))
}

func scalars(_ name: String, in found: MLFeatureProvider) throws -> [Float] {
    guard let array = found.featureValue(for: name)?.multiArrayValue else {
        throw DeviceError("the model must have an output \(name)")
    }
    return MLShapedArray<Float>(array).scalars
}
