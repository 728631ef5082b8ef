import CoreML
import XCTest

@testable import PersonalityDevice

/// A bundle of `pt export`, in the environment variable PERSONALITY_BUNDLE, against its own `golden/`.
final class BundleTests: XCTestCase {
    struct Golden: Decodable {
        struct Entry: Decodable {
            let file: String, dtype: String, shape: [Int], fingerprint: String
        }

        struct Update: Decodable {
            let learningRate: Double, arrays: [String: Entry]

            enum CodingKeys: String, CodingKey {
                case arrays
                case learningRate = "learning_rate"
            }
        }

        let texts: [String]?, tokenIDs: [[Int32]]?
        let arrays: [String: Entry], update: Update

        enum CodingKeys: String, CodingKey {
            case texts, arrays, update
            case tokenIDs = "token_ids"
        }
    }

    var bundle: URL!, scratch: URL!
    var golden: Golden!, manifest: Manifest!

    override func setUpWithError() throws {
        guard let path = ProcessInfo.processInfo.environment["PERSONALITY_BUNDLE"] else {
            throw XCTSkip("PERSONALITY_BUNDLE must name a bundle of pt export")
        }
        bundle = URL(fileURLWithPath: path)
        manifest = try Manifest.read(bundle)
        let file = bundle.appendingPathComponent("golden/golden.json")
        golden = try JSONDecoder().decode(Golden.self, from: Data(contentsOf: file))
        scratch = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: scratch, withIntermediateDirectories: true)
    }

    override func tearDownWithError() throws {
        if let scratch { try FileManager.default.removeItem(at: scratch) }
    }

    func testFilesAreThoseThatWereExported() throws {
        XCTAssertEqual(manifest.updatable, ["projection.weight", "output_bias"])
        try manifest.verify(bundle)
    }

    func testFingerprintsOfTheGoldenArrays() throws {
        for entry in [golden.arrays, golden.update.arrays].flatMap(\.values) {
            let data = try Data(contentsOf: bundle.appendingPathComponent("golden/\(entry.file)"))
            let found = fingerprint(dtype: entry.dtype, shape: entry.shape, data: data)
            XCTAssertEqual(found, entry.fingerprint, entry.file)
        }
    }

    func testTokenIDs() throws {
        struct Hard: Decodable { let text: String, tokens: [String] }
        let wordPiece = try self.wordPiece()
        let vocabulary = try String(contentsOf: bundle.appendingPathComponent("vocab.txt"), encoding: .utf8)
            .unicodeScalars.split(separator: "\n").map { String($0) }
        let file = try XCTUnwrap(Bundle.module.url(forResource: "wordpiece", withExtension: "json"))
        for hard in try JSONDecoder().decode([Hard].self, from: Data(contentsOf: file)) {
            XCTAssertEqual(wordPiece.ids(of: hard.text).map { vocabulary[Int($0)] }, hard.tokens, hard.text)
        }
        for (text, ids) in zip(try XCTUnwrap(golden.texts), try XCTUnwrap(golden.tokenIDs)) {
            XCTAssertEqual(wordPiece.ids(of: text), ids, text)
        }
    }

    func testTextsToEmbeddings() async throws {
        let encoder = try await compiled("encoder"), model = try await compiled("model")
        let predictor = Predictor(wordPiece: try wordPiece(), encoder: encoder, model: model)
        for (text, expected) in zip(try XCTUnwrap(golden.texts), try rows("embeddings")) {
            let cosine = zip(try predictor.embedding(of: text), expected).reduce(0) { $0 + $1.0 * $1.1 }
            XCTAssertGreaterThan(cosine, 0.98, text)  // int8 weights
        }
    }

    func testEmbeddingsToLogits() async throws {
        let model = try await compiled("model")
        try check(model, latents: rows("latents"), logits: rows("logits"))
    }

    func testPatch() async throws {
        let head = try updated(), source = try inside(bundle, manifest.package("model").file)
        let package = scratch.appendingPathComponent("Patched.mlpackage")
        try Patch.apply(head, bundle: bundle, to: package)
        XCTAssertEqual(try Patch.read(bundle: bundle, package: package), head)
        XCTAssertEqual(try Patch.read(bundle: bundle, package: source, shipped: true), try shipped())

        let places = try manifest.head(in: "model")
        var before = try Data(contentsOf: source.appendingPathComponent(places.weight.file))
        var after = try Data(contentsOf: package.appendingPathComponent(places.weight.file))
        XCTAssertEqual(before.count, after.count)
        for tensor in [places.weight, places.bias] {
            let range = tensor.offset!..<tensor.offset! + tensor.size
            before.resetBytes(in: range)
            after.resetBytes(in: range)
        }
        XCTAssertEqual(before, after)

        let model = try await Patch.compile(package, to: scratch.appendingPathComponent("Patched.mlmodelc"))
        let latents = try rows("latents")
        try check(model, latents: latents, logits: head.logits(latents).map { $0.map { Float($0) } })
    }

    func testUpdateTask() async throws {
        let package = try inside(bundle, manifest.package("head").file)
        let (head, before) = (scratch.appendingPathComponent("Head.mlmodelc"), try shipped())
        _ = try await Patch.compile(package, to: head)
        let task = try await UpdateTask.calibrate(
            compiled: head, head: before, scratch: scratch.appendingPathComponent("Calibration.mlmodelc"))
        print("update task: c \(task.factor), if a mean \(UpdateTask.expectedFactor(tokens: before.tokens))")
        let rate = golden.update.learningRate
        let steps = try rows("gradient").map { $0.map { -rate * Double($0) } }
        let after = try await task.move(
            compiled: head, head: before, latents: rows("latents"), by: steps,
            to: scratch.appendingPathComponent("Updated.mlmodelc"))
        let expected = try updated()
        XCTAssertLessThan(distance(after.weight, expected.weight), 1e-6 * distance(expected.weight, []))
        XCTAssertLessThan(distance(after.bias, expected.bias), 1e-6 * distance(expected.bias, []))
    }

    func testState() async throws {
        guard #available(macOS 15, iOS 18, *) else { throw XCTSkip("state buffers need macOS 15 or iOS 18") }
        let package = try manifest.package("stateful"), model = try await compiled("stateful")
        for state in package.states {
            let data = try Data(contentsOf: inside(bundle, state.initial.file))
            let values = try state.parameter == "output_bias" ? shipped().bias : shipped().weight
            XCTAssertEqual(data, try bytes(of: values, as: state.dtype))
            XCTAssertEqual(
                fingerprint(dtype: state.dtype, shape: state.shape, data: data), state.initial.fingerprint)
        }
        let head = try updated()
        try check(model, StateHead.make(model, head), head)
    }

    func testRollBack() async throws {
        let store = try HeadStore(folder: scratch.appendingPathComponent("heads"), bundle: bundle)
        XCTAssertEqual(store.active, HeadStore.shipped)
        try store.add(updated(), as: "night-1")
        _ = try await store.activate("night-1")
        XCTAssertEqual(try store.head(store.active), try updated())
        XCTAssertThrowsError(try store.add(shipped(), as: "night-1"))
        let model = try await store.rollBack()
        XCTAssertEqual(store.active, HeadStore.shipped)
        XCTAssertEqual(try store.head(store.active), try shipped())
        try check(model, latents: rows("latents"), logits: rows("logits"))
    }

    // A function that is not async has the synchronous `prediction`.
    @available(macOS 15, iOS 18, *)
    private func check(_ model: MLModel, _ state: MLState, _ head: Head) throws {
        let half = try Head(
            weight: numbers(in: bytes(of: head.weight, as: "float16"), as: "float16"),
            bias: numbers(in: bytes(of: head.bias, as: "float16"), as: "float16"))
        for (embedding, expected) in zip(try rows("embeddings"), half.logits(try rows("latents"))) {
            let found = try model.prediction(from: features(["embedding": row(embedding)]), using: state)
            for (a, b) in zip(try scalars("logits", in: found), expected) {
                XCTAssertEqual(Double(a), b, accuracy: 1e-4)
            }
        }
    }

    private func check(_ model: MLModel, latents: [[Float]], logits: [[Float]]) throws {
        for (i, embedding) in try rows("embeddings").enumerated() {
            let found = try model.prediction(from: features(["embedding": row(embedding)]))
            for (name, expected) in [("latent", latents[i]), ("logits", logits[i])] {
                for (a, b) in zip(try scalars(name, in: found), expected) {
                    XCTAssertEqual(a, b, accuracy: 1e-4)  // float32.latent and float32.logits of the manifest
                }
            }
        }
    }

    private func wordPiece() throws -> WordPiece {
        try WordPiece(vocabulary: bundle.appendingPathComponent("vocab.txt"))
    }

    private func compiled(_ part: String) async throws -> MLModel {
        let package = try inside(bundle, manifest.package(part).file)
        return try await Patch.compile(package, to: scratch.appendingPathComponent("\(part).mlmodelc"))
    }

    private func shipped() throws -> Head {
        try Head(weight: array("projection_weight"), bias: array("output_bias"))
    }

    private func updated() throws -> Head {
        try Head(weight: array("updated_projection_weight"), bias: array("updated_output_bias"))
    }

    private func entry(_ name: String) throws -> Golden.Entry {
        try XCTUnwrap(golden.arrays[name] ?? golden.update.arrays[name], name)
    }

    private func array(_ name: String) throws -> [Float] {
        let file = bundle.appendingPathComponent("golden/\(try entry(name).file)")
        return try numbers(in: Data(contentsOf: file), as: "float32")
    }

    private func rows(_ name: String) throws -> [[Float]] {
        let values = try array(name), width = try entry(name).shape[1]
        return stride(from: 0, to: values.count, by: width).map { Array(values[$0..<$0 + width]) }
    }

    private func distance(_ a: [Float], _ b: [Float]) -> Double {
        let squares = a.enumerated().map { i, x in pow(Double(x) - (b.isEmpty ? 0 : Double(b[i])), 2) }
        return squares.reduce(0, +).squareRoot()
    }
}
