import CoreML
import Foundation

/// Route `patch`: overwrite the head's two ranges in a copy of `PersonalityModel.mlpackage`, and compile it.
public enum Patch {
    /// Write the head into a copy of the package that shipped; an earlier copy at `target` is replaced.
    public static func apply(_ head: Head, bundle: URL, to target: URL) throws {
        let manifest = try Manifest.read(bundle)
        let source = try inside(bundle, manifest.package("model").file)
        let places = try manifest.head(in: "model")
        let copy = beside(target, "mlpackage")
        defer { try? FileManager.default.removeItem(at: copy) }
        try FileManager.default.copyItem(at: source, to: copy)
        for (tensor, values) in [(places.weight, head.weight), (places.bias, head.bias)] {
            try write(values, to: tensor, in: copy)
        }
        try replace(target, with: copy)
    }

    /// Compile a package and keep the result at `target`: Core ML leaves it in a temporary folder.
    public static func compile(_ package: URL, to target: URL) async throws -> MLModel {
        let compiled = try await MLModel.compileModel(at: package)
        try replace(target, with: compiled)
        return try MLModel(contentsOf: target, configuration: MLModelConfiguration())
    }

    /// The head that a package holds, checked against the fingerprints if it is to be the one that shipped.
    public static func read(bundle: URL, package: URL, shipped: Bool = false) throws -> Head {
        let places = try Manifest.read(bundle).head(in: "model")
        func values(_ tensor: Manifest.Tensor) throws -> [Float] {
            let data = try range(of: tensor, in: package)
            let found = fingerprint(dtype: tensor.dtype, shape: tensor.shape, data: data)
            guard !shipped || found == tensor.fingerprint else {
                throw DeviceError("\(tensor.name): must be the tensor that shipped")
            }
            return try numbers(in: data, as: tensor.dtype)
        }
        return try Head(weight: values(places.weight), bias: values(places.bias))
    }

    static func write(_ values: [Float], to tensor: Manifest.Tensor, in package: URL) throws {
        let data = try bytes(of: values, as: tensor.dtype)
        guard let offset = tensor.offset, data.count == tensor.size else {
            throw DeviceError("\(tensor.name): must be \(tensor.size) bytes of a file, got \(data.count)")
        }
        _ = try range(of: tensor, in: package)
        let file = try FileHandle(forUpdating: inside(package, tensor.file))
        defer { try? file.close() }
        try file.seek(toOffset: UInt64(offset))
        try file.write(contentsOf: data)
        try file.synchronize()
    }

    private static func range(of tensor: Manifest.Tensor, in package: URL) throws -> Data {
        guard let offset = tensor.offset, offset >= 0 else {
            throw DeviceError("\(tensor.name): must have an offset")
        }
        let file = try FileHandle(forReadingFrom: inside(package, tensor.file))
        defer { try? file.close() }
        try file.seek(toOffset: UInt64(offset))
        guard let data = try file.read(upToCount: tensor.size), data.count == tensor.size else {
            throw DeviceError("\(tensor.name): its range must lie inside the file")
        }
        return data
    }
}

/// A new name in the same folder, from where a rename puts things in place.
func beside(_ url: URL, _ pathExtension: String) -> URL {
    url.deletingLastPathComponent().appendingPathComponent("\(UUID().uuidString).\(pathExtension)")
}

/// Put `new` where `old` is, or would be.
func replace(_ old: URL, with new: URL) throws {
    if FileManager.default.fileExists(atPath: old.path) {
        _ = try FileManager.default.replaceItemAt(old, withItemAt: new)
    } else {
        try FileManager.default.moveItem(at: new, to: old)
    }
}
