import Foundation

/// One candidate of a text: tokens in the order drawn, and what the user said.
public struct Candidate: Codable, Equatable, Sendable {
    public let tokens: [Int]
    /// nil: no feedback.
    public let reward: Double?
    /// Log-probability of the set under the head that drew it; nil: the head at the start of the night.
    public let logp: Double?

    public init(tokens: [Int], reward: Double?, logp: Double? = nil) {
        (self.tokens, self.reward, self.logp) = (tokens, reward, logp)
    }
}

/// The night by gradients: GRPO on the head, in closed form. Steps are docs/on-the-device.md's.
public struct Night {
    public typealias Rows = [[Double]]

    public struct Result {
        /// Step 2, per text and candidate; nil where a candidate teaches nothing.
        public var advantages: [[Double?]]
        /// Step 5, of the first iteration, (texts, tokens).
        public var firstGradient: Rows
        /// Step 5, after every iteration: nats to the policy at the start.
        public var kl: [Double]
        /// Step 5: weight += share * coefficientsᵀ latents.
        public var coefficients: Rows
        /// Step 6: what the budgets left of the update.
        public var share: Double
        /// Step 7.
        public var head: Head
    }

    static let draws = 8, top = 8
    static let deviationFloor = 1e-3, spreadTolerance = 1e-6
    static let clipLow = 0.5, clipHigh = 2.0, delta = 4.0, logRatioLimit = 20.0
    static let klWeight = 0.1, entropyWeight = 0.05
    static let learningRate = 30.0, iterations = 12
    static let klStop = 0.3, klBudget = 0.5, overlapBudget = 0.7
    static let halvings = 10

    let latents: [[Float]], texts: [[Candidate]]
    let head: Head
    let start: Rows, shipped: Rows

    /// - Parameters:
    ///   - latents: (texts, width).
    ///   - head: where the night starts.
    ///   - shipped: the head that shipped.
    public init(latents: [[Float]], texts: [[Candidate]], head: Head, shipped: Head) {
        (self.latents, self.texts, self.head) = (latents, texts, head)
        start = head.logits(latents)
        self.shipped = shipped.logits(latents)
    }

    /// By day: the tokens with the largest logit + Gumbel noise, the largest first.
    ///
    /// - Parameter uniform: (tokens), each from 0 to below 1.
    public static func draw(_ logits: [Double], uniform: [Double]) -> [Int] {
        PersonalityDevice.top(draws, of: zip(logits, uniform).map { $0 - log(-log1p(-$1)) })
    }

    /// By day: what to store beside a candidate that was drawn.
    public static func logProbability(_ logits: [Double], of tokens: [Int]) -> Double {
        logProbabilities(logits, tokens).reduce(0, +)
    }

    public func run() throws -> Result {
        let advantages = Self.advantages(texts)
        let nothing = start.map { $0.map { _ in 0.0 } }
        var result = Result(
            advantages: advantages, firstGradient: nothing, kl: [], coefficients: nothing, share: 1,
            head: head)
        guard advantages.joined().contains(where: { $0 != nil }) else { return result }
        // The 1 is the bias: a latent dimension whose value is always 1.
        let gram = latents.map { a in latents.map { b in 1 + Self.dot(a, b) } }
        var z = start
        for iteration in 0..<Self.iterations {
            let gradient = self.gradient(z, advantages)
            if iteration == 0 { result.firstGradient = gradient }
            for (text, row) in gradient.enumerated() {
                for (token, slope) in row.enumerated() {
                    result.coefficients[text][token] -= Self.learningRate * slope
                }
            }
            z = moved(start, by: result.coefficients, gram)
            result.kl.append(Self.kl(z, start))
            if result.kl[iteration] > Self.klStop { break }
        }
        result.share = share(z)
        try make(&result)
        return result
    }

    // Step 2.
    static func advantages(_ texts: [[Candidate]]) -> [[Double?]] {
        var result = texts.map { [Double?](repeating: nil, count: $0.count) }
        var singles: [(text: Int, candidate: Int, reward: Double)] = []
        for (text, candidates) in texts.enumerated() {
            let heard: [(Int, Double)] = candidates.indices.compactMap { i in
                candidates[i].reward.map { (i, $0) }
            }
            if heard.count == 1 { singles.append((text, heard[0].0, heard[0].1)) }
            guard heard.count > 1 else { continue }
            let rewards = heard.map { $0.1 }
            let (least, most) = (rewards.min()!, rewards.max()!)
            guard most - least > spreadTolerance * max(1, abs(least), abs(most)) else { continue }
            let (mean, deviation) = moments(rewards)
            for (i, reward) in heard { result[text][i] = (reward - mean) / max(deviation, deviationFloor) }
        }
        guard singles.count > 1 else { return result }
        let deviation = max(moments(singles.map { $0.reward }).deviation, deviationFloor)
        var sum = singles[0].reward
        for (before, single) in singles.enumerated().dropFirst() {
            result[single.text][single.candidate] = (single.reward - sum / Double(before)) / deviation
            sum += single.reward
        }
        return result
    }

    private static func moments(_ values: [Double]) -> (mean: Double, deviation: Double) {
        let mean = values.reduce(0, +) / Double(values.count)
        let squares = values.reduce(0.0) { $0 + ($1 - mean) * ($1 - mean) }
        return (mean, (squares / Double(values.count - 1)).squareRoot())
    }

    // Step 4: of each draw, its logit against those that are not yet drawn.
    static func logProbabilities(_ logits: [Double], _ tokens: [Int]) -> [Double] {
        let largest = logits.max()!
        var left = logits.map { exp($0 - largest) }
        return tokens.map { token in
            defer { left[token] = 0 }
            return logits[token] - largest - log(left.reduce(0, +))
        }
    }

    // Step 5: the gradient of the night's loss at the logits.
    func gradient(_ z: Rows, _ advantages: [[Double?]]) -> Rows {
        let heard = texts.map { text in text.filter { $0.reward != nil }.count }
        let speaking = Double(heard.filter { $0 > 0 }.count)
        return texts.indices.map { text in
            var row = z[text].map { _ in 0.0 }
            guard heard[text] > 0 else { return row }
            for (candidate, advantage) in zip(texts[text], advantages[text]) {
                guard let advantage else { continue }
                let unit = 1 / (speaking * Double(heard[text] * candidate.tokens.count))
                add(unit, advantage, candidate, z[text], start[text], to: &row)
            }
            let logP = Self.logSoftmax(z[text]), logQ = Self.logSoftmax(shipped[text])
            let entropy = -logP.reduce(0.0) { $0 + exp($1) * $1 }
            let apart = zip(logP, logQ).reduce(0.0) { $0 + exp($1.0) * ($1.0 - $1.1) }
            for (token, value) in logP.enumerated() {
                let pull = Self.klWeight * (value - logQ[token] - apart)
                row[token] += exp(value) * (pull + Self.entropyWeight * (value + entropy)) / speaking
            }
            return row
        }
    }

    private func add(
        _ unit: Double, _ advantage: Double, _ candidate: Candidate, _ z: [Double], _ start: [Double],
        to row: inout [Double]
    ) {
        let tokens = candidate.tokens
        let now = Self.logProbabilities(z, tokens)
        var old = Self.logProbabilities(start, tokens)
        if let logp = candidate.logp {
            let shift = (logp - old.reduce(0, +)) / Double(tokens.count)
            old = old.map { $0 + shift }
        }
        let largest = z.max()!
        var left = z.map { exp($0 - largest) }
        for (draw, token) in tokens.enumerated() {
            let weight = unit * Self.slope(exp(Self.held(now[draw] - old[draw])), advantage)
            let mass = left.reduce(0, +)
            for other in left.indices { row[other] -= weight * left[other] / mass }
            row[token] += weight
            left[token] = 0
        }
    }

    /// Of the clipped surrogate, at the log-probability.
    static func slope(_ ratio: Double, _ advantage: Double) -> Double {
        let free = advantage > 0 ? ratio <= clipHigh : clipLow <= ratio && ratio <= delta
        return free ? -ratio * advantage : 0
    }

    static func held(_ difference: Double) -> Double { min(max(difference, -logRatioLimit), logRatioLimit) }

    // Step 6.
    private func share(_ end: Rows) -> Double {
        let broken = beyond(end)
        guard broken.any else { return 1 }
        guard !beyond(start).any else { return 0 }
        var (low, high) = (0.0, 1.0)
        for _ in 0..<Self.halvings {
            let middle = (low + high) / 2
            let found = beyond(zip(start, end).map { a, b in zip(a, b).map { $0 + middle * ($1 - $0) } })
            let still = (broken.kl && found.kl) || (broken.overlap && found.overlap)
            (low, high) = still ? (low, middle) : (middle, high)
        }
        return low
    }

    // Step 7: make the head, measure it, and take less of the update while it is beyond a budget.
    private func make(_ result: inout Result) throws {
        var less = pow(0.5, Double(Self.halvings))
        while result.share > 0 {
            let made = try moved(head, by: result.coefficients, share: result.share)
            if !beyond(made.logits(latents)).any {
                result.head = made
                return
            }
            result.share = max(0, result.share - less)
            less *= 2
        }
    }

    private struct Beyond {
        let kl: Bool, overlap: Bool
        var any: Bool { kl || overlap }
    }

    /// Which budgets are broken; a KL that is no number breaks its own.
    private func beyond(_ z: Rows) -> Beyond {
        Beyond(
            kl: !(Self.kl(z, shipped) <= Self.klBudget),
            overlap: Self.overlap(z, shipped) < Self.overlapBudget)
    }

    private func moved(_ start: Rows, by coefficients: Rows, _ gram: Rows) -> Rows {
        start.indices.map { text in
            var row = start[text]
            for (other, weight) in gram[text].enumerated() {
                for token in row.indices { row[token] += weight * coefficients[other][token] }
            }
            return row
        }
    }

    private func moved(_ head: Head, by coefficients: Rows, share: Double) throws -> Head {
        var weight = head.weight.map { Double($0) }, bias = head.bias.map { Double($0) }
        let width = head.width
        for (text, latent) in latents.enumerated() {
            for token in 0..<head.tokens {
                let step = share * coefficients[text][token]
                bias[token] += step
                for i in 0..<width { weight[token * width + i] += step * Double(latent[i]) }
            }
        }
        return try Head(weight: weight.map { Float($0) }, bias: bias.map { Float($0) })
    }

    private static func dot(_ a: [Float], _ b: [Float]) -> Double {
        zip(a, b).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
    }

    static func logSoftmax(_ z: [Double]) -> [Double] {
        let largest = z.max()!
        let total = log(z.reduce(0.0) { $0 + exp($1 - largest) })
        return z.map { $0 - largest - total }
    }

    /// Of the first draw, in nats: the mean over the texts.
    static func kl(_ p: Rows, _ q: Rows) -> Double {
        let rows = zip(p, q).map { a, b in
            zip(logSoftmax(a), logSoftmax(b)).reduce(0.0) { $0 + exp($1.0) * ($1.0 - $1.1) }
        }
        return rows.reduce(0, +) / Double(rows.count)
    }

    /// Share of the top 8 in common: the mean over the texts.
    static func overlap(_ p: Rows, _ q: Rows) -> Double {
        let rows = zip(p, q).map { a, b in
            Set(PersonalityDevice.top(top, of: a)).intersection(PersonalityDevice.top(top, of: b)).count
        }
        return Double(rows.reduce(0, +)) / Double(rows.count * top)
    }
}
