import XCTest

@testable import PersonalityDevice

/// Nights with all their intermediate values, in `night.json`, which the toolkit holds against its own GRPO.
final class NightTests: XCTestCase {
    struct Case: Decodable {
        let latents: [[Float]], weight: [Float], bias: [Float]
        let shippedWeight: [Float], shippedBias: [Float]
        let uniform: [[[Double]]], texts: [[Candidate]]
        let logp: [[Double]], advantages: [[Double]]
        let firstGradient: [[Double]], kl: [Double], coefficients: [[Double]]
        let share: Double, newWeight: [Float], newBias: [Float]

        enum CodingKeys: String, CodingKey {
            case latents, weight, bias, uniform, texts, logp, advantages, kl, coefficients, share
            case shippedWeight = "shipped_weight", shippedBias = "shipped_bias"
            case firstGradient = "first_gradient", newWeight = "new_weight", newBias = "new_bias"
        }

        func head() throws -> Head { try Head(weight: weight, bias: bias) }

        func night() throws -> Night {
            let shipped = try Head(weight: shippedWeight, bias: shippedBias)
            return Night(latents: latents, texts: texts, head: try head(), shipped: shipped)
        }
    }

    static func cases() throws -> [Case] {
        let file = try XCTUnwrap(Bundle.module.url(forResource: "night", withExtension: "json"))
        return try JSONDecoder().decode([Case].self, from: Data(contentsOf: file))
    }

    func testDraws() throws {
        for night in try Self.cases() {
            let logits = try night.head().logits(night.latents)
            for (text, candidates) in night.texts.enumerated() {
                for (i, candidate) in candidates.enumerated() {
                    let drawn = Night.draw(logits[text], uniform: night.uniform[text][i])
                    XCTAssertEqual(drawn, candidate.tokens)
                    let logp = Night.logProbability(logits[text], of: drawn)
                    XCTAssertEqual(logp, night.logp[text][i], accuracy: 1e-7)
                }
            }
        }
    }

    func testAdvantages() throws {
        for night in try Self.cases() {
            close(Night.advantages(night.texts).map { $0.map { $0 ?? 0 } }, night.advantages, 1e-8)
        }
    }

    func testGradientStepsAndHead() throws {
        for night in try Self.cases() {
            let found = try night.night().run()
            close(found.firstGradient, night.firstGradient, 1e-9)
            close([found.kl], [night.kl], 1e-6)
            close(found.coefficients, night.coefficients, 1e-5)
            XCTAssertEqual(found.share, night.share)
            close([found.head.weight.map { Double($0) }], [night.newWeight.map { Double($0) }], 1e-5)
            close([found.head.bias.map { Double($0) }], [night.newBias.map { Double($0) }], 1e-5)
        }
    }

    func testWithoutFeedbackTheHeadStays() throws {
        let night = try Self.cases()[0]
        let silent = night.texts.map { $0.map { Candidate(tokens: $0.tokens, reward: nil) } }
        let shipped = try Head(weight: night.shippedWeight, bias: night.shippedBias)
        let head = try night.head()
        let found = try Night(latents: night.latents, texts: silent, head: head, shipped: shipped).run()
        XCTAssertEqual(found.head, head)
        XCTAssertTrue(found.kl.isEmpty)
    }

    private func close(_ ours: [[Double]], _ theirs: [[Double]], _ accuracy: Double, line: UInt = #line) {
        XCTAssertEqual(ours.count, theirs.count, line: line)
        for (a, b) in zip(ours, theirs) {
            XCTAssertEqual(a.count, b.count, line: line)
            for (x, y) in zip(a, b) { XCTAssertEqual(x, y, accuracy: accuracy, line: line) }
        }
    }
}
