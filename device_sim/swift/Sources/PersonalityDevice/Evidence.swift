import Foundation

/// What nights of feedback come to: sums over [x m y z], which add up. Step 1 of docs/on-the-device.md.
public struct Evidence: Codable, Equatable, Sendable {
    public let tokens: Int
    /// tokens + 2 + likenesses.
    public let size: Int
    /// (size, size), row after row: S.
    public var sums: [Double]
    /// How many independent numbers are in there.
    public var contrasts: Int

    public init(tokens: Int, likenesses: Int) {
        self.tokens = tokens
        size = tokens + 2 + likenesses
        sums = [Double](repeating: 0, count: size * size)
        contrasts = 0
    }

    /// Of one night.
    ///
    /// - Parameter rows: of each text the rows [x m y z] of its heard candidates.
    /// - Returns: the evidence, and of each text what y has become.
    static func of(_ rows: [[[Double]]], tokens: Int, likenesses: Int) -> (Evidence, advantages: [[Double]]) {
        var found = Evidence(tokens: tokens, likenesses: likenesses)
        let size = found.size
        var moved = rows.map { text in spread(text, size) }
        var total = [Double](repeating: 0, count: size), squares = 0.0, count = 0
        for text in moved {
            let w = 1 / (1 + Double(text.count)).squareRoot()
            for row in text {
                for i in 0..<size { total[i] += w * row[i] }
                squares += w * w
                count += 1
            }
        }
        guard count > 0 else { return (found, rows.map { _ in [] }) }
        for text in moved.indices {
            let w = 1 / (1 + Double(moved[text].count)).squareRoot()
            for row in moved[text].indices {
                for i in 0..<size { moved[text][row][i] -= w * total[i] / squares }
                found.add(moved[text][row])
            }
        }
        found.contrasts = count - 1
        return (found, moved.map { text in text.map { row in row[tokens + 1] } })
    }

    /// Less a part of their mean.
    private static func spread(_ text: [[Double]], _ size: Int) -> [[Double]] {
        guard !text.isEmpty else { return [] }
        let part = 1 - 1 / (1 + Double(text.count)).squareRoot()
        let mean = Evidence.mean(text, size)
        return text.map { row in (0..<size).map { i in row[i] - part * mean[i] } }
    }

    static func mean(_ rows: [[Double]], _ size: Int) -> [Double] {
        var mean = [Double](repeating: 0, count: size)
        for row in rows {
            for i in 0..<size { mean[i] += row[i] / Double(rows.count) }
        }
        return mean
    }

    private mutating func add(_ row: [Double]) {
        let there = row.indices.filter { row[$0] != 0 }
        for i in there {
            for j in there { sums[i * size + j] += row[i] * row[j] }
        }
    }

    static func + (a: Evidence, b: Evidence) -> Evidence {
        var both = a
        for i in both.sums.indices { both.sums[i] += b.sums[i] }
        both.contrasts += b.contrasts
        return both
    }

    /// Of no night, in the same shape.
    var none: Evidence { Evidence(tokens: tokens, likenesses: size - tokens - 2) }

    /// Whether there is anything to learn from: rewards that are not all the same.
    var learnable: Bool { contrasts > 1 && self[tokens + 1, tokens + 1] > 0 }

    subscript(i: Int, j: Int) -> Double { sums[i * size + j] }
}

/// A positive definite matrix in two triangles: solves systems, small enough for plain loops.
struct Cholesky {
    private let n: Int
    private var lower: [Double]

    /// - Parameter matrix: (n, n), row after row.
    init(_ matrix: [Double], _ n: Int) throws {
        self.n = n
        lower = matrix
        for j in 0..<n {
            for i in j..<n {
                var sum = lower[i * n + j]
                for k in 0..<j { sum -= lower[i * n + k] * lower[j * n + k] }
                if i > j {
                    lower[i * n + j] = sum / lower[j * n + j]
                } else {
                    guard sum > 0 else { throw DeviceError("evidence must be finite, and is damaged") }
                    lower[j * n + j] = sum.squareRoot()
                }
            }
        }
    }

    func solve(_ b: [Double]) -> [Double] {
        var x = b
        for i in 0..<n {
            for k in 0..<i { x[i] -= lower[i * n + k] * x[k] }
            x[i] /= lower[i * n + i]
        }
        for i in stride(from: n - 1, through: 0, by: -1) {
            for k in (i + 1)..<max(n, i + 1) { x[i] -= lower[k * n + i] * x[k] }
            x[i] /= lower[i * n + i]
        }
        return x
    }

    /// (n, n), row after row.
    func inverse() -> [Double] {
        var found = [Double](repeating: 0, count: n * n)
        for column in 0..<n {
            var unit = [Double](repeating: 0, count: n)
            unit[column] = 1
            for (i, value) in solve(unit).enumerated() { found[i * n + column] = value }
        }
        return found
    }

    var halfLogDeterminant: Double {
        (0..<n).reduce(0.0) { sum, i in sum + log(lower[i * n + i]) }
    }
}
