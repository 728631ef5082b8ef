import Foundation

/// What all feedback says of a user's taste. Step 3 of docs/on-the-device.md.
public struct Taste: Equatable, Sendable {
    static let widths = [3.0, 0.3]
    static let likenessWidth = 0.05
    static let leastNoise = 1e-12

    /// rho; 0 if the feedback is likelier without a taste.
    public let width: Double
    /// (tokens)
    public let theta: [Double]
    /// How much the user cares that tokens fit the text.
    public let alpha: Double
    /// q / n.
    public let noise: Double
    public let logLikelihood: Double
    /// Nats over a rho of 0.
    public let gain: Double

    /// At the likeliest of the widths and 0.
    static func of(_ evidence: Evidence, widths: [Double]) throws -> Taste {
        let (evidence, cost) = try withoutTexts(evidence)
        let tokens = evidence.tokens, m = tokens, y = tokens + 1, n = Double(evidence.contrasts)
        // Candidates that are all as relevant say nothing of alpha.
        let mm = evidence[m, m] > 0 ? evidence[m, m] : 1
        let ofM = (0..<tokens).map { i in evidence[m, m] > 0 ? evidence[i, m] : 0 }
        let my = evidence[m, m] > 0 ? evidence[m, y] : 0
        let b = (0..<tokens).map { i in evidence[i, y] - ofM[i] * my / mm }
        let c = max(evidence[y, y] - my * my / mm, leastNoise * evidence[y, y])
        let nothing = -n / 2 * log(c / n) - cost
        var best = Taste(
            width: 0, theta: b.map { _ in 0 }, alpha: my / mm, noise: c / n, logLikelihood: nothing, gain: 0)
        for rho in widths {
            var matrix = [Double](repeating: 0, count: tokens * tokens)
            for i in 0..<tokens {
                for j in 0..<tokens {
                    matrix[i * tokens + j] = rho * (evidence[i, j] - ofM[i] * ofM[j] / mm)
                }
                matrix[i * tokens + i] += 1
            }
            let factor = try Cholesky(matrix, tokens)
            let theta = factor.solve(b).map { rho * $0 }
            let q = max(c - zip(b, theta).reduce(0.0) { $0 + $1.0 * $1.1 }, leastNoise * c)
            let found = -n / 2 * log(q / n) - factor.halfLogDeterminant - cost
            if found > best.logLikelihood {
                let fits = zip(ofM, theta).reduce(0.0) { $0 + $1.0 * $1.1 }
                best = Taste(
                    width: rho, theta: theta, alpha: (my - fits) / mm, noise: q / n, logLikelihood: found,
                    gain: found - nothing)
            }
        }
        return best
    }

    /// Sums over [x m y] without what texts are liked for, and what that costs log ML.
    private static func withoutTexts(_ evidence: Evidence) throws -> (Evidence, cost: Double) {
        let size = evidence.tokens + 2, likenesses = evidence.size - size
        var matrix = [Double](repeating: 0, count: likenesses * likenesses)
        for i in 0..<likenesses {
            for j in 0..<likenesses {
                matrix[i * likenesses + j] = likenessWidth * evidence[size + i, size + j]
            }
            matrix[i * likenesses + i] += 1
        }
        let factor = try Cholesky(matrix, likenesses)
        var left = Evidence(tokens: evidence.tokens, likenesses: 0)
        left.contrasts = evidence.contrasts
        for j in 0..<size {
            let explained = factor.solve((0..<likenesses).map { evidence[size + $0, j] })
            for i in 0..<size {
                var sum = 0.0
                for k in 0..<likenesses { sum += evidence[size + k, i] * explained[k] }
                left.sums[i * size + j] = evidence[i, j] - likenessWidth * sum
            }
        }
        return (left, factor.halfLogDeterminant)
    }

    /// Step 5: theta brought nearer to 0 by half its root mean square.
    var direction: [Double] {
        let half = size / 2
        return theta.map { value in
            let left = max(abs(value) - half, 0)
            return value < 0 ? -left : left
        }
    }

    /// Root mean square.
    var size: Double {
        (theta.reduce(0.0) { $0 + $1 * $1 } / Double(theta.count)).squareRoot()
    }
}
