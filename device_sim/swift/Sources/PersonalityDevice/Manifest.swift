import Foundation

/// `manifest.json`, as far as an app needs it.
public struct Manifest: Decodable, Sendable {
    public struct Tensor: Decodable, Sendable {
        public let name: String
        /// Relative to the package.
        public let file: String
        /// Where the data begin. Absent: inline in the program, not to be patched.
        public let offset: Int?
        /// Where the weight file's record of them begins: write nothing there.
        public let metadataOffset: Int?
        /// Bytes.
        public let size: Int
        public let shape: [Int]
        public let dtype: String
        public let updatable: Bool
        public let fingerprint: String

        enum CodingKeys: String, CodingKey {
            case name, file, offset, size, shape, dtype, updatable, fingerprint
            case metadataOffset = "metadata_offset"
        }
    }

    public struct State: Decodable, Sendable {
        public struct Initial: Decodable, Sendable {
            public let file: String
            public let fingerprint: String
        }

        public let name: String
        public let shape: [Int]
        public let dtype: String
        public let parameter: String
        public let initial: Initial
    }

    public struct Package: Decodable, Sendable {
        public let file: String
        public let route: String?
        public let tensors: [Tensor]
        public let states: [State]
    }

    public struct File: Decodable, Sendable {
        public let bytes: Int
        public let sha256: String
    }

    public struct Fingerprint: Decodable, Sendable {
        public let fingerprint: String
    }

    /// A file that holds one array and nothing else, relative to the bundle.
    public struct StoredArray: Decodable, Sendable {
        public let file: String, dtype: String, shape: [Int], fingerprint: String
    }

    /// Texts, as numbers, on which budgets are measured.
    public struct Reference: Decodable, Sendable {
        /// (texts, width) float16.
        public let latents: StoredArray
    }

    public let schema: Int
    public let run: Fingerprint
    public let vocabulary: Fingerprint
    public let encoder: Fingerprint
    public let updatable: [String]
    public let packages: [String: Package]
    public let files: [String: File]
    /// Absent in a bundle of an earlier version.
    public let reference: Reference?
    /// File of the golden nights; absent in a bundle of an earlier version.
    public let goldenNight: String?

    enum CodingKeys: String, CodingKey {
        case schema, run, vocabulary, encoder, updatable, packages, files, reference
        case goldenNight = "golden_night"
    }

    /// Read the manifest of a bundle.
    public static func read(_ bundle: URL) throws -> Manifest {
        let data = try Data(contentsOf: bundle.appendingPathComponent("manifest.json"))
        let manifest = try JSONDecoder().decode(Manifest.self, from: data)
        guard manifest.schema == 1 else {
            throw DeviceError("manifest.json: schema must be 1, is \(manifest.schema)")
        }
        return manifest
    }

    /// Every file has the size and the SHA-256 that the manifest names. Once is enough.
    public func verify(_ bundle: URL) throws {
        for (path, file) in files {
            let url = try inside(bundle, path)
            let size = try url.resourceValues(forKeys: [.fileSizeKey]).fileSize
            guard size == file.bytes, try sha256(of: url) == file.sha256 else {
                throw DeviceError("\(path): is not the file that was exported")
            }
        }
    }

    public func package(_ part: String) throws -> Package {
        guard let package = packages[part] else { throw DeviceError("the bundle has no package \(part)") }
        return package
    }

    /// The head's weight and bias in a package.
    public func head(in part: String) throws -> (weight: Tensor, bias: Tensor) {
        let tensors = try package(part).tensors.filter(\.updatable)
        guard tensors.count == 2, let weight = tensors.first(where: { $0.name == "projection.weight" }),
            let bias = tensors.first(where: { $0.name == "output_bias" })
        else { throw DeviceError("package \(part) must have projection.weight and output_bias to change") }
        return (weight, bias)
    }
}

extension Manifest {
    /// The reference's latents, a row for each text.
    public func referenceLatents(_ bundle: URL) throws -> [[Float]] {
        guard let latents = reference?.latents, latents.shape.count == 2 else {
            throw DeviceError("the bundle has no reference: export the run again")
        }
        let data = try Data(contentsOf: inside(bundle, latents.file)), width = latents.shape[1]
        let values = try numbers(in: data, as: latents.dtype)
        guard width > 0, values.count == latents.shape[0] * width else {
            throw DeviceError("\(latents.file): must have the shape that the manifest names")
        }
        return stride(from: 0, to: values.count, by: width).map { Array(values[$0..<$0 + width]) }
    }
}

/// A path from a manifest, which must not lead out of the folder that it is relative to.
func inside(_ folder: URL, _ path: String) throws -> URL {
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    guard !parts.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }) else {
        throw DeviceError("\(path): must be a path inside the bundle")
    }
    return folder.appendingPathComponent(path)
}
