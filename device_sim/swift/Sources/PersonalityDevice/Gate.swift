import Foundation

/// Is what the rewards say of the candidates more than chance? Step 2 of docs/on-the-device.md.
public struct Gate: Codable, Equatable, Sendable {
    static let enough = 20.0, leastContrasts = 20, block = 25
    static let stakes = [0.25, 0.6, 1.0]
    static let tasteWidth = 3.0, alphaWidth = 100.0

    /// Logarithm of what each stake has made of 1.
    public var wealth = [Double](repeating: 0, count: Gate.stakes.count)
    /// Logarithm of the greatest mean there ever was.
    public var peak = 0.0

    public init() {}

    public var isOpen: Bool { peak >= log(Self.enough) }

    /// Bet on a night, before its evidence is added.
    ///
    /// - Parameter rows: of each text the rows [x m y z] before they are moved; z is not looked at.
    mutating func bet(on rows: [[[Double]]], before: Evidence) throws {
        var expected = try Expectation(before)
        for text in Self.blocks(rows) {
            let centred = Self.centred(text, before.tokens + 2)
            let found = try expected.shock(centred)
            if expected.contrasts >= Self.leastContrasts, expected.left > 0 { bet(found, expected) }
            expected.learn(found)
        }
    }

    private mutating func bet(_ text: Expectation.Shock, _ expected: Expectation) {
        let count = text.e.count, noise = expected.left / Double(expected.contrasts)
        let t: [Double] = (0..<count).map { k in
            let off = (0..<count).map { i in text.e[(i + k) % count] - text.p[i] }
            let solved = text.v.solve(off)
            return -zip(off, solved).reduce(0.0) { $0 + $1.0 * $1.1 } / (2 * noise)
        }
        for (i, stake) in Self.stakes.enumerated() {
            wealth[i] += stake * t[0] - Self.logMean(t.map { stake * $0 })
        }
        peak = max(peak, Self.logMean(wealth))
    }

    /// Of texts with two heard candidates or more, and of some texts with one each.
    static func blocks(_ rows: [[[Double]]]) -> [[[Double]]] {
        var blocks = rows.filter { $0.count > 1 }
        let single = rows.filter { $0.count == 1 }.map { $0[0] }
        guard single.count > 1 else { return blocks }
        let parts = (single.count + block - 1) / block
        for i in 0..<parts {
            blocks.append(Array(single[i * single.count / parts..<(i + 1) * single.count / parts]))
        }
        return blocks
    }

    private static func centred(_ text: [[Double]], _ size: Int) -> [[Double]] {
        let mean = Evidence.mean(text, size)
        return text.map { row in (0..<size).map { i in row[i] - mean[i] } }
    }

    static func logMean(_ logs: [Double]) -> Double {
        let most = logs.max()!
        return most + log(logs.reduce(0.0) { $0 + exp($1 - most) } / Double(logs.count))
    }
}

/// What is expected of rewards, by all that is known before a text.
struct Expectation {
    /// Of one text: residuals and the covariance of what is expected.
    struct Shock {
        let rows: [[Double]], projected: [[Double]]
        let v: Cholesky
        let e: [Double], p: [Double], shock: [Double]
    }

    /// tokens + 1: over [x m].
    let n: Int
    private(set) var covariance: [Double]
    private(set) var mean: [Double]
    private(set) var left: Double
    private(set) var contrasts: Int

    init(_ before: Evidence) throws {
        n = before.tokens + 1
        var precision = [Double](repeating: 0, count: n * n)
        for i in 0..<n {
            for j in 0..<n { precision[i * n + j] = before[i, j] }
            precision[i * n + i] += 1 / (i < n - 1 ? Gate.tasteWidth : Gate.alphaWidth)
        }
        covariance = try Cholesky(precision, n).inverse()
        let moment = (0..<n).map { i in before[i, n] }
        mean = Self.product(covariance, moment)
        left = max(0, before[n, n] - zip(moment, mean).reduce(0.0) { $0 + $1.0 * $1.1 })
        contrasts = before.contrasts
    }

    /// - Parameter rows: of a text, less their mean.
    func shock(_ rows: [[Double]]) throws -> Shock {
        let count = rows.count
        let inputs = rows.map { Array($0[0..<n]) }
        let projected = inputs.map { Self.product(covariance, $0) }
        var v = [Double](repeating: 0, count: count * count)
        for i in 0..<count {
            for j in 0..<count {
                v[i * count + j] = (i == j ? 1 : 0) + Self.dot(inputs[i], projected[j])
            }
        }
        let alpha = mean[n - 1]
        let all = inputs.map { Self.dot($0, mean) }
        let p = (0..<count).map { i in all[i] - inputs[i][n - 1] * alpha }
        let e = (0..<count).map { i in rows[i][n] - alpha * inputs[i][n - 1] }
        let shock = (0..<count).map { i in rows[i][n] - all[i] }
        return Shock(rows: inputs, projected: projected, v: try Cholesky(v, count), e: e, p: p, shock: shock)
    }

    /// The text joins, whether it was bet on or not.
    mutating func learn(_ text: Shock) {
        let weights = text.v.solve(text.shock)
        left += zip(text.shock, weights).reduce(0.0) { $0 + $1.0 * $1.1 }
        contrasts += text.shock.count - 1
        for (projected, weight) in zip(text.projected, weights) {
            for i in 0..<n { mean[i] += projected[i] * weight }
        }
        let columns = (0..<n).map { i in text.v.solve(text.projected.map { $0[i] }) }
        for i in 0..<n {
            for (row, projected) in text.projected.enumerated() {
                let gain = columns[i][row]
                for j in 0..<n { covariance[i * n + j] -= gain * projected[j] }
            }
        }
    }

    private static func dot(_ a: [Double], _ b: [Double]) -> Double {
        var sum = 0.0
        for i in a.indices { sum += a[i] * b[i] }
        return sum
    }

    private static func product(_ matrix: [Double], _ vector: [Double]) -> [Double] {
        let n = vector.count
        return (0..<n).map { i in
            var sum = 0.0
            for j in 0..<n { sum += matrix[i * n + j] * vector[j] }
            return sum
        }
    }
}
