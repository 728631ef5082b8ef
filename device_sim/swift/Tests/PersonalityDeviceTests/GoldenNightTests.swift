import XCTest

@testable import PersonalityDevice

/// The golden nights of a bundle, in the environment variable PERSONALITY_BUNDLE, against `DefaultNight`.
final class GoldenNightTests: XCTestCase {
    struct Record: Decodable {
        struct Figures: Decodable {
            let wealth: [Double], peak: Double, open: Bool, forgotten: Bool, contrasts: [Int]
            let width: Double?, alpha: Double?, noise: Double?, gain: Double?
            let limit: Double?, step: Double, overlap: Double, kl: Double
        }

        let schema: Int, nights: [Figures], arrays: [String: Manifest.StoredArray]
    }

    var folder: URL!, record: Record!, shipped: Head!, latents: [[Float]]!

    override func setUpWithError() throws {
        guard let path = ProcessInfo.processInfo.environment["PERSONALITY_BUNDLE"] else {
            throw XCTSkip("PERSONALITY_BUNDLE must name a bundle of pt export")
        }
        let bundle = URL(fileURLWithPath: path), manifest = try Manifest.read(bundle)
        let file = try inside(bundle, XCTUnwrap(manifest.goldenNight))
        folder = file.deletingLastPathComponent()
        record = try JSONDecoder().decode(Record.self, from: Data(contentsOf: file))
        guard record.schema == 2 else { throw XCTSkip("the bundle's nights are of an earlier learner") }
        let package = try inside(bundle, manifest.package("model").file)
        shipped = try Patch.read(bundle: bundle, package: package, shipped: true)
        latents = try manifest.referenceLatents(bundle)
    }

    func testDraws() throws {
        let texts = try integers("texts"), uniform = try floats("uniform"), tokens = try integers("tokens")
        var head = shipped!
        let (count, group) = (try shape("tokens")[1], try shape("tokens")[2])
        for night in record.nights.indices {
            for text in 0..<count {
                let logits = head.logits([latents[texts[night * count + text]]])[0]
                for candidate in 0..<group {
                    let at = (night * count + text) * group + candidate
                    let numbers = uniform[at * head.tokens..<(at + 1) * head.tokens].map { Double($0) }
                    let wanted = Array(tokens[at * 8..<(at + 1) * 8])
                    XCTAssertEqual(Night.draw(logits, uniform: numbers), wanted, "\(night) \(text)")
                }
            }
            head = try Head(weight: shipped.weight, bias: bias(night))
        }
    }

    func testNights() throws {
        let learner = DefaultNight(shipped: shipped, reference: latents)
        var state = NightState(tokens: shipped.tokens, likenesses: learner.likenesses)
        for (night, figures) in record.nights.enumerated() {
            let (texts, rows) = try day(night)
            let found = try learner.run(latents: rows, texts: texts, state: state)
            state = found.state
            close(found.likeness.flatMap { $0 }, try part("likeness", night), 1e-5)
            try check("relevance", found.relevance, night, 1e-5)
            try check("advantages", found.advantages, night, 1e-6)
            if night == 0 { close(found.tonight.sums, try doubles("evidence"), 1e-4) }
            close(state.gate.wealth, figures.wealth, 1e-4)
            XCTAssertEqual(state.gate.peak, figures.peak, accuracy: 1e-4)
            XCTAssertEqual(state.gate.isOpen, figures.open)
            XCTAssertEqual([state.before.contrasts, state.since.contrasts], figures.contrasts)
            XCTAssertEqual(found.taste?.width, figures.width)
            let wanted = try bias(night)
            guard let taste = found.taste else {
                XCTAssertEqual(found.head, shipped)
                continue
            }
            let theta = try part("taste", night), direction = try part("direction", night)
            close(taste.theta, theta, 1e-4 * theta.map { abs($0) }.max()!)
            close(taste.direction, direction, 1e-4 * theta.map { abs($0) }.max()!)
            XCTAssertEqual(taste.alpha, try XCTUnwrap(figures.alpha), accuracy: 1e-4)
            XCTAssertEqual(taste.noise, try XCTUnwrap(figures.noise), accuracy: 1e-4)
            XCTAssertEqual(taste.gain, try XCTUnwrap(figures.gain), accuracy: 1e-2)
            let limit = try XCTUnwrap(figures.limit)
            XCTAssertEqual(found.limit, limit, accuracy: 1e-3 * limit)
            XCTAssertEqual(found.step, figures.step, accuracy: 0.03 * figures.step)
            let moved = learner.moved(direction, figures.step)
            close(moved.map { Double($0) }, wanted.map { Double($0) }, 1e-6)
            let spent = learner.spent(wanted)
            XCTAssertEqual(spent.overlap, figures.overlap, accuracy: 2e-3)
            XCTAssertEqual(spent.kl, figures.kl, accuracy: 1e-4)
            XCTAssertEqual(found.head.weight, shipped.weight)
        }
        XCTAssertTrue(record.nights.last!.forgotten)
    }

    /// A state survives being written down.
    func testStateIsCodable() throws {
        let (texts, rows) = try day(0)
        let learner = DefaultNight(shipped: shipped, reference: latents)
        let start = NightState(tokens: shipped.tokens, likenesses: learner.likenesses)
        let state = try learner.run(latents: rows, texts: texts, state: start).state
        let data = try PropertyListEncoder().encode(state)
        XCTAssertEqual(try PropertyListDecoder().decode(NightState.self, from: data), state)
    }

    private func day(_ night: Int) throws -> ([[Candidate]], [[Float]]) {
        let (count, group) = (try shape("tokens")[1], try shape("tokens")[2])
        let places = try integers("texts"), tokens = try integers("tokens"), rewards = try doubles("rewards")
        let texts = (0..<count).map { text in
            (0..<group).map { candidate -> Candidate in
                let at = (night * count + text) * group + candidate
                let reward = rewards[at].isNaN ? nil : rewards[at]
                return Candidate(tokens: Array(tokens[at * 8..<(at + 1) * 8]), reward: reward)
            }
        }
        return (texts, (0..<count).map { latents[places[night * count + $0]] })
    }

    private func check(_ name: String, _ found: [[Double?]], _ night: Int, _ accuracy: Double) throws {
        for (ours, theirs) in zip(found.joined(), try part(name, night)) {
            XCTAssertEqual(ours == nil, theirs.isNaN, name)
            if let ours { XCTAssertEqual(ours, theirs, accuracy: accuracy, name) }
        }
    }

    private func close(_ ours: [Double], _ theirs: [Double], _ accuracy: Double, line: UInt = #line) {
        XCTAssertEqual(ours.count, theirs.count, line: line)
        let worst = zip(ours, theirs).map { abs($0 - $1) }.max() ?? 0
        XCTAssertLessThanOrEqual(worst, accuracy, line: line)
    }

    private func bias(_ night: Int) throws -> [Float] {
        let all = try floats("bias")
        return Array(all[night * shipped.tokens..<(night + 1) * shipped.tokens])
    }

    /// Of a float64 array, what belongs to one night.
    private func part(_ name: String, _ night: Int) throws -> [Double] {
        let all = try doubles(name), size = all.count / record.nights.count
        return Array(all[night * size..<(night + 1) * size])
    }

    private func data(_ name: String, _ dtype: String) throws -> Data {
        let array = try XCTUnwrap(record.arrays[name], name)
        XCTAssertEqual(array.dtype, dtype, name)
        let data = try Data(contentsOf: folder.appendingPathComponent(array.file))
        let found = fingerprint(dtype: array.dtype, shape: array.shape, data: data)
        XCTAssertEqual(found, array.fingerprint, name)
        return data
    }

    private func shape(_ name: String) throws -> [Int] { try XCTUnwrap(record.arrays[name], name).shape }

    private func floats(_ name: String) throws -> [Float] {
        try numbers(in: data(name, "float32"), as: "float32")
    }

    private func integers(_ name: String) throws -> [Int] {
        try data(name, "int32").withUnsafeBytes { raw in
            (0..<raw.count / 4).map { i in
                Int(Int32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 * i, as: Int32.self)))
            }
        }
    }

    private func doubles(_ name: String) throws -> [Double] {
        try data(name, "float64").withUnsafeBytes { raw in
            (0..<raw.count / 8).map { i in
                let pattern = raw.loadUnaligned(fromByteOffset: 8 * i, as: UInt64.self)
                return Double(bitPattern: UInt64(littleEndian: pattern))
            }
        }
    }
}
