import CoreML
import Foundation

/// Versions of the head in a folder, one of them active.
///
///     FOLDER/versions/NAME/{weight.bin, bias.bin, record.json}   written once, never changed
///     FOLDER/compiled/NAME.mlmodelc                              made anew when it is missing
///     FOLDER/active                                              a name; replaced as a whole
///
/// The package that shipped is never written to, so the way back is always there.
public struct HeadStore {
    public struct Record: Codable, Equatable, Sendable {
        /// The version that it was made from; nil: the head that shipped.
        public let parent: String?
        /// Of weight and bias.
        public let fingerprints: [String]
        /// Of run, vocabulary and encoder: a head belongs to one bundle.
        public let bundle: [String]
        public let created: Date
    }

    public static let shipped = "shipped"

    let folder: URL, bundle: URL
    private let identity: [String]

    public init(folder: URL, bundle: URL) throws {
        (self.folder, self.bundle) = (folder, bundle)
        let manifest = try Manifest.read(bundle)
        identity = [manifest.run, manifest.vocabulary, manifest.encoder].map(\.fingerprint)
        for name in ["versions", "compiled"] {
            try FileManager.default.createDirectory(
                at: folder.appendingPathComponent(name), withIntermediateDirectories: true)
        }
    }

    public var active: String {
        (try? String(contentsOf: folder.appendingPathComponent("active"), encoding: .utf8)) ?? Self.shipped
    }

    /// Keep a head that was made from the active one; it is not yet active itself.
    public func add(_ head: Head, as name: String) throws {
        let place = try version(name)
        guard name != Self.shipped, !FileManager.default.fileExists(atPath: place.path) else {
            throw DeviceError("\(name): a version is written once")
        }
        let record = Record(
            parent: active == Self.shipped ? nil : active, fingerprints: try fingerprints(head),
            bundle: identity, created: Date())
        let aside = beside(folder.appendingPathComponent("active"), "aside")
        defer { try? FileManager.default.removeItem(at: aside) }
        try FileManager.default.createDirectory(at: aside, withIntermediateDirectories: true)
        try bytes(of: head.weight, as: "float32").write(to: aside.appendingPathComponent("weight.bin"))
        try bytes(of: head.bias, as: "float32").write(to: aside.appendingPathComponent("bias.bin"))
        try JSONEncoder().encode(record).write(to: aside.appendingPathComponent("record.json"))
        try FileManager.default.moveItem(at: aside, to: place)
    }

    /// A head, bit for bit as it was added; the shipped one comes from its package.
    public func head(_ name: String) throws -> Head {
        if name == Self.shipped {
            let package = try inside(bundle, Manifest.read(bundle).package("model").file)
            return try Patch.read(bundle: bundle, package: package, shipped: true)
        }
        let place = try version(name), record = try self.record(name)
        let head = try Head(
            weight: numbers(in: Data(contentsOf: place.appendingPathComponent("weight.bin")), as: "float32"),
            bias: numbers(in: Data(contentsOf: place.appendingPathComponent("bias.bin")), as: "float32"))
        guard try fingerprints(head) == record.fingerprints, record.bundle == identity else {
            throw DeviceError("\(name): is damaged, or of another bundle")
        }
        return head
    }

    /// Patch a version into a copy of the package that shipped, compile and load it, then make it active.
    public func activate(_ name: String) async throws -> MLModel {
        let head = try self.head(name), package = beside(folder.appendingPathComponent("active"), "mlpackage")
        defer { try? FileManager.default.removeItem(at: package) }
        try Patch.apply(head, bundle: bundle, to: package)
        let model = try await Patch.compile(package, to: compiled(name))
        try Data(name.utf8).write(to: folder.appendingPathComponent("active"), options: .atomic)
        return model
    }

    /// Go back to the version that the active one was made from.
    public func rollBack() async throws -> MLModel {
        guard active != Self.shipped else { throw DeviceError("the head that shipped is active already") }
        return try await activate(record(active).parent ?? Self.shipped)
    }

    /// The active version's model, after a start of the app.
    public func model() async throws -> MLModel {
        let place = try compiled(active)
        guard FileManager.default.fileExists(atPath: place.path) else { return try await activate(active) }
        return try MLModel(contentsOf: place, configuration: MLModelConfiguration())
    }

    private func record(_ name: String) throws -> Record {
        let data = try Data(contentsOf: version(name).appendingPathComponent("record.json"))
        return try JSONDecoder().decode(Record.self, from: data)
    }

    private func version(_ name: String) throws -> URL {
        try inside(folder.appendingPathComponent("versions"), Self.checked(name))
    }

    private func compiled(_ name: String) throws -> URL {
        try inside(folder.appendingPathComponent("compiled"), Self.checked(name) + ".mlmodelc")
    }

    private static func checked(_ name: String) throws -> String {
        guard !name.contains("/") else { throw DeviceError("\(name): must be a name, not a path") }
        return name
    }

    private func fingerprints(_ head: Head) throws -> [String] {
        try [([head.tokens, head.width], head.weight), ([head.tokens], head.bias)].map { shape, values in
            fingerprint(dtype: "float32", shape: shape, data: try bytes(of: values, as: "float32"))
        }
    }
}
