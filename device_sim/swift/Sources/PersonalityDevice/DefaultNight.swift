import Foundation

/// All that a device keeps from one night to the next, beside the fingerprints of the bundle.
public struct NightState: Codable, Equatable, Sendable {
    public var gate = Gate()
    /// Of the nights since the taste last changed, and of those that may have seen another change.
    public var before: Evidence
    public var since: Evidence
    /// log ML of `before`; nil until the gate is open.
    public var logLikelihood: Double?
    /// rho as it was last found, and at how many contrasts; 0 asks again.
    public var width = 0.0
    public var widthContrasts = 0

    /// - Parameter likenesses: of `DefaultNight`, as it counts them.
    public init(tokens: Int, likenesses: Int) {
        before = Evidence(tokens: tokens, likenesses: likenesses)
        since = Evidence(tokens: tokens, likenesses: likenesses)
    }
}

/// The default night: the head made afresh from all feedback. Steps are docs/on-the-device.md's.
public struct DefaultNight {
    public struct Spent: Equatable, Sendable {
        public let overlap: Double, overlapError: Double, kl: Double
    }

    public struct Result {
        public var state: NightState
        /// Step 1: z of each text.
        public var likeness: [[Double]]
        /// Step 1, per text and candidate; nil where nothing was said.
        public var relevance: [[Double?]]
        public var advantages: [[Double?]]
        public var tonight: Evidence
        /// Step 3; nil while the gate is closed.
        public var taste: Taste?
        /// Step 5.
        public var limit = 0.0
        public var step = 0.0
        public var spent = Spent(overlap: 1, overlapError: 0, kl: 0)
        public var head: Head
    }

    static let changed = log(1000.0), grown = 1.2
    static let klBudget = 0.5, overlapBudget = 0.7, errors = 1.64
    static let farthest = 4 * 1.4826, deviations = 10.0, precision = 1.0 / 1024
    static let mostKinds = 32

    /// How many numbers say what a text is like.
    public let likenesses: Int
    let shipped: Head
    private let centre: [Double]
    private let kinds: [[Double]]
    private let reference: [[Double]]
    private let tops: [[Int]]
    private let logQ: [[Double]]
    private let spread: Double

    /// - Parameters:
    ///   - shipped: the head that shipped.
    ///   - reference: (texts, width), latents of the manifest's `reference`.
    public init(shipped: Head, reference: [[Float]]) {
        self.shipped = shipped
        let found = Self.kinds(of: reference)
        centre = found.centre
        kinds = found.kinds
        likenesses = found.kinds.count
        let logits = shipped.logits(reference)
        self.reference = logits
        tops = logits.map { top(8, of: $0) }
        logQ = logits.map { Night.logSoftmax($0) }
        var squares = 0.0
        for row in logits {
            let mean = row.reduce(0, +) / Double(row.count)
            squares += row.reduce(0.0) { $0 + ($1 - mean) * ($1 - mean) } / Double(row.count)
        }
        spread = (squares / Double(logits.count)).squareRoot()
    }

    /// One night.
    ///
    /// - Parameters:
    ///   - latents: (texts, width).
    ///   - texts: their candidates; `logp` is not read.
    ///   - state: of the night before, or a new one.
    public func run(latents: [[Float]], texts: [[Candidate]], state: NightState) throws -> Result {
        let likeness = latents.map { self.likeness($0) }
        let (rows, relevance) = self.rows(shipped.logits(latents), texts, likeness)
        let (tonight, moved) = Evidence.of(rows, tokens: shipped.tokens, likenesses: likenesses)
        let advantages: [[Double?]] = zip(relevance, moved).map { said, ys in
            var rest = ys[...]
            return said.map { $0 == nil ? nil : rest.popFirst() }
        }
        var state = state
        if !state.gate.isOpen { try state.gate.bet(on: rows, before: state.before + state.since) }
        var result = Result(
            state: state, likeness: likeness, relevance: relevance, advantages: advantages, tonight: tonight,
            head: shipped)
        let all = state.before + state.since + tonight
        guard state.gate.isOpen, all.learnable else {
            result.state.before = all
            result.state.since = all.none
            result.state.logLikelihood = nil
            return result
        }
        let taste = try Self.learn(&result.state, all, tonight)
        result.taste = taste
        try move(along: taste, &result)
        return result
    }

    // Step 1: the middle of the reference, and what its first texts are besides, in units of the usual likeness.
    private static func kinds(of reference: [[Float]]) -> (centre: [Double], kinds: [[Double]]) {
        let width = reference[0].count
        var centre = [Double](repeating: 0, count: width)
        for text in reference {
            for i in 0..<width { centre[i] += Double(text[i]) / Double(reference.count) }
        }
        let apart = reference.map { text in (0..<width).map { Double(text[$0]) - centre[$0] } }
        let kinds = Array(apart.prefix(mostKinds))
        var squares = 0.0
        for text in apart {
            for kind in kinds {
                let product = zip(text, kind).reduce(0.0) { $0 + $1.0 * $1.1 }
                squares += product * product
            }
        }
        let unit = max((squares / Double(apart.count * kinds.count)).squareRoot(), 1e-12)
        return (centre, kinds.map { kind in kind.map { $0 / unit } })
    }

    // Step 1: z of a text.
    private func likeness(_ latent: [Float]) -> [Double] {
        kinds.map { kind in
            var sum = 0.0
            for i in kind.indices { sum += (Double(latent[i]) - centre[i]) * kind[i] }
            return sum
        }
    }

    // Step 1: of each text the rows [x m y z] of its heard candidates, and m of every one.
    private func rows(
        _ logits: [[Double]], _ texts: [[Candidate]], _ likeness: [[Double]]
    ) -> ([[[Double]]], [[Double?]]) {
        var rows: [[[Double]]] = [], relevance: [[Double?]] = []
        let bounds = Self.bounds(texts.joined().compactMap { $0.tokens.isEmpty ? nil : $0.reward })
        for (text, candidates) in texts.enumerated() {
            let z = logits[text], mean = z.reduce(0, +) / Double(z.count)
            var ofText: [[Double]] = [], ms: [Double?] = []
            for candidate in candidates {
                guard let reward = candidate.reward, !candidate.tokens.isEmpty else {
                    ms.append(nil)
                    continue
                }
                let part = 1 / Double(candidate.tokens.count)
                var row = [Double](repeating: 0, count: shipped.tokens + 2)
                var m = 0.0
                for token in candidate.tokens {
                    row[token] = part
                    m += part * (z[token] - mean)
                }
                row[shipped.tokens] = m
                row[shipped.tokens + 1] = min(max(reward, bounds.lowerBound), bounds.upperBound)
                ofText.append(row + likeness[text])
                ms.append(m)
            }
            rows.append(ofText)
            relevance.append(ms)
        }
        return (rows, relevance)
    }

    // Step 1: what a reward of the night is brought between.
    private static func bounds(_ rewards: [Double]) -> ClosedRange<Double> {
        guard !rewards.isEmpty else { return -Double.infinity...Double.infinity }
        let median = rewards.sorted()[(rewards.count - 1) / 2]
        let far = farthest * rewards.map { abs($0 - median) }.sorted()[(rewards.count - 1) / 2]
        return far > 0 ? (median - far)...(median + far) : -Double.infinity...Double.infinity
    }

    // Step 4, with step 3 of the evidence that counts.
    static func learn(_ state: inout NightState, _ all: Evidence, _ tonight: Evidence) throws -> Taste {
        let since = state.since + tonight
        let due = state.width == 0 || Double(all.contrasts) >= grown * Double(state.widthContrasts)
        let widths = due ? Taste.widths : [state.width]
        let one = try Taste.of(all, widths: widths)
        var taste = one, found = due
        func settle(_ evidence: Evidence, _ logLikelihood: Double) {
            state.before = evidence
            state.since = evidence.none
            state.logLikelihood = logLikelihood
        }
        if let before = state.logLikelihood {
            state.since = since
            if since.learnable {
                let alone = try Taste.of(since, widths: widths)
                let two = before + alone.logLikelihood
                if two - one.logLikelihood > changed {
                    settle(since, alone.logLikelihood)
                    (taste, found) = (alone, true)
                } else if two <= one.logLikelihood {
                    settle(all, one.logLikelihood)
                }
            }
        } else {
            settle(all, one.logLikelihood)
        }
        if found {
            state.width = taste.width
            state.widthContrasts = state.before.contrasts + state.since.contrasts
        }
        return taste
    }

    // Step 5.
    private func move(along taste: Taste, _ result: inout Result) throws {
        guard taste.size > 0 else { return }
        let direction = taste.direction
        result.limit = 1 / max(taste.alpha, taste.size / (Self.deviations * spread))
        var (low, high) = (0.0, result.limit)
        if within(spent(moved(direction, high))) {
            low = high
        }
        while high - low > Self.precision * high {
            let middle = (low + high) / 2
            if within(spent(moved(direction, middle))) { low = middle } else { high = middle }
            if high < result.limit * 1e-9 { break }
        }
        result.step = low
        let bias = moved(direction, low)
        result.spent = spent(bias)
        result.head = try Head(weight: shipped.weight, bias: bias)
    }

    func moved(_ direction: [Double], _ step: Double) -> [Float] {
        zip(shipped.bias, direction).map { Float(Double($0) + step * $1) }
    }

    private func within(_ spent: Spent) -> Bool {
        spent.overlap - Self.errors * spent.overlapError >= Self.overlapBudget && spent.kl <= Self.klBudget
    }

    /// What a head with the weight that shipped and another bias spends on the reference.
    func spent(_ bias: [Float]) -> Spent {
        let by = zip(bias, shipped.bias).map { Double($0) - Double($1) }
        var kept: [Double] = [], kl = 0.0
        for (text, before) in reference.enumerated() {
            let z = before.indices.map { before[$0] + by[$0] }
            kept.append(Double(tops[text].filter { Self.rank($0, in: z) < 8 }.count) / 8)
            let logP = Night.logSoftmax(z)
            for v in logP.indices { kl += exp(logP[v]) * (logP[v] - logQ[text][v]) }
        }
        let count = Double(kept.count), mean = kept.reduce(0, +) / count
        let variance = kept.reduce(0.0) { $0 + ($1 - mean) * ($1 - mean) } / count
        return Spent(overlap: mean, overlapError: (variance / (count - 1)).squareRoot(), kl: kl / count)
    }

    /// How many logits come before this one.
    private static func rank(_ token: Int, in z: [Double]) -> Int {
        var before = 0
        for v in z.indices where z[v] > z[token] || (z[v] == z[token] && v < token) { before += 1 }
        return before
    }
}
