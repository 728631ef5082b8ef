import Foundation

/// What went wrong, in one line.
public struct DeviceError: LocalizedError, Equatable {
    public let errorDescription: String?

    init(_ message: String) { errorDescription = message }
}

/// The head: all that a device may change. A token's weights are a row, and the rows follow one another.
public struct Head: Equatable, Sendable {
    /// (tokens, width): the weight of token v and latent dimension i is `weight[v * width + i]`.
    public let weight: [Float]
    /// (tokens)
    public let bias: [Float]

    public var tokens: Int { bias.count }
    public var width: Int { weight.count / bias.count }

    public init(weight: [Float], bias: [Float]) throws {
        guard !bias.isEmpty, weight.count % bias.count == 0, (weight + bias).allSatisfy(\.isFinite) else {
            throw DeviceError("a head must be finite, with as many weights for each token")
        }
        self.weight = weight
        self.bias = bias
    }

    /// Logits (rows, tokens) of latents (rows, width).
    public func logits(_ latents: [[Float]]) -> [[Double]] {
        let width = self.width
        return latents.map { latent in
            bias.indices.map { token in
                var sum = Double(bias[token])
                for i in 0..<width { sum += Double(weight[token * width + i]) * Double(latent[i]) }
                return sum
            }
        }
    }
}

/// Numbers as a bundle stores them: in C order, little-endian.
public func bytes(of values: [Float], as dtype: String) throws -> Data {
    switch dtype {
    case "float32":
        return values.map { $0.bitPattern.littleEndian }.withUnsafeBytes { Data($0) }
    case "float16":
        // Rounds to nearest, ties to even; beyond 65,504 it gives infinity.
        return values.map { Float16($0).bitPattern.littleEndian }.withUnsafeBytes { Data($0) }
    default:
        throw DeviceError("numbers are stored as float32 or float16, not as \(dtype)")
    }
}

/// The inverse of `bytes(of:as:)`.
public func numbers(in data: Data, as dtype: String) throws -> [Float] {
    try data.withUnsafeBytes { raw in
        switch dtype {
        case "float32":
            return (0..<raw.count / 4).map { i in
                let pattern = raw.loadUnaligned(fromByteOffset: 4 * i, as: UInt32.self)
                return Float(bitPattern: UInt32(littleEndian: pattern))
            }
        case "float16":
            return (0..<raw.count / 2).map { i in
                let pattern = raw.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)
                return Float(Float16(bitPattern: UInt16(littleEndian: pattern)))
            }
        default:
            throw DeviceError("numbers are stored as float32 or float16, not as \(dtype)")
        }
    }
}
