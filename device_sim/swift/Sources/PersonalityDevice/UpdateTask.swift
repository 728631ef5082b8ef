import CoreML
import Foundation

/// Route `update-task`: Core ML trains `PersonalityHead` by mean squared error, with shifted targets.
///
/// Every mini-batch has `rows` rows, so that one calibrated factor holds for all. Rows that are missing have
/// the latent 0 and the target that the head gives it: no error, no gradient.
public struct UpdateTask {
    public static let rows = 64
    static let learningRate = 1.0

    /// c: the gradient of Core ML's loss at the logits is (logits - target) / c.
    public let factor: Double

    public init(factor: Double) { self.factor = factor }

    /// rows * tokens / 2 if the error is the mean over both, as in PyTorch. Measure what Core ML does.
    public static func expectedFactor(tokens: Int) -> Double { Double(rows * tokens) / 2 }

    /// Measure c: targets one below the logits move every bias down by learning rate * rows / c.
    public static func calibrate(compiled: URL, head: Head, scratch: URL) async throws -> UpdateTask {
        let latents = [[Float]](repeating: [Float](repeating: 0, count: head.width), count: rows)
        let targets = [[Float]](repeating: head.bias.map { $0 - 1 }, count: rows)
        let moved = try await step(compiled, latents, targets, to: scratch)
        let down = zip(head.bias, moved.bias).map { Double($0) - Double($1) }
        return UpdateTask(factor: learningRate * Double(rows) * Double(head.tokens) / down.reduce(0, +))
    }

    /// weight += coefficientsᵀ latents, bias += the coefficients' sum over the texts.
    ///
    /// - Parameters:
    ///   - compiled: `PersonalityHead.mlmodelc` with `head` in it; only read.
    ///   - coefficients: (texts, tokens); `Night.Result.coefficients` times its share is a whole night.
    ///   - target: where the updated model is written, compiled.
    /// - Returns: the head that it holds.
    public func move(
        compiled: URL, head: Head, latents: [[Float]], by coefficients: [[Double]], to target: URL
    ) async throws -> Head {
        var (current, now) = (compiled, head)
        for start in stride(from: 0, to: latents.count, by: Self.rows) {
            let texts = start..<min(start + Self.rows, latents.count)
            var (inputs, targets) = (Array(latents[texts]), [[Float]]())
            for (z, move) in zip(now.logits(inputs), coefficients[texts]) {
                targets.append(zip(z, move).map { Float($0 + factor / Self.learningRate * $1) })
            }
            while inputs.count < Self.rows {
                inputs.append([Float](repeating: 0, count: now.width))
                targets.append(now.bias)
            }
            now = try await Self.step(current, inputs, targets, to: target)
            current = target
        }
        return now
    }

    /// One task of one mini-batch and one epoch.
    static func step(
        _ compiled: URL, _ latents: [[Float]], _ targets: [[Float]], to target: URL
    ) async throws -> Head {
        let examples = try zip(latents, targets).map { try features(["latent": row($0), "target": row($1)]) }
        let configuration = MLModelConfiguration()
        configuration.parameters = [
            MLParameterKey.learningRate: learningRate, MLParameterKey.miniBatchSize: rows,
            MLParameterKey.epochs: 1, MLParameterKey.shuffle: false,
        ]
        return try await withCheckedThrowingContinuation { done in
            do {
                let task = try MLUpdateTask(
                    forModelAt: compiled, trainingData: MLArrayBatchProvider(array: examples),
                    configuration: configuration
                ) { context in
                    done.resume(with: Swift.Result<Head, Error> { try UpdateTask.keep(context, at: target) })
                }
                task.resume()
            } catch {
                done.resume(throwing: error)
            }
        }
    }

    private static func keep(_ context: MLUpdateContext, at target: URL) throws -> Head {
        if let error = context.task.error { throw error }
        let written = beside(target, "mlmodelc")
        try FileManager.default.createDirectory(at: written, withIntermediateDirectories: true)
        try context.model.write(to: written)
        try replace(target, with: written)
        return try read(context.model)
    }

    /// The head of an updated `PersonalityHead`, whose layer is called `projection`.
    static func read(_ model: MLModel) throws -> Head {
        func values(_ key: MLParameterKey) throws -> [Float] {
            let value = try model.parameterValue(for: key.scoped(to: "projection"))
            guard let array = value as? MLMultiArray else {
                throw DeviceError("the layer projection must have weights and biases")
            }
            return (0..<array.count).map { array[$0].floatValue }
        }
        return try Head(weight: values(MLParameterKey.weights), bias: values(MLParameterKey.biases))
    }
}
