import CryptoKit
import Foundation

/// SHA-256 over `dtype 00 shape 00 bytes`, in lower-case hexadecimal: equal exactly when every bit is.
public func fingerprint(dtype: String, shape: [Int], data: Data) -> String {
    var hash = SHA256()
    hash.update(data: Data(dtype.utf8))
    hash.update(data: Data([0]))
    hash.update(data: Data(shape.map(String.init).joined(separator: ",").utf8))
    hash.update(data: Data([0]))
    hash.update(data: data)
    return hexadecimal(hash.finalize())
}

/// SHA-256 of a file, as in the manifest's `files`.
public func sha256(of file: URL) throws -> String {
    hexadecimal(SHA256.hash(data: try Data(contentsOf: file, options: .mappedIfSafe)))
}

private func hexadecimal(_ digest: SHA256.Digest) -> String {
    digest.map { String(format: "%02x", $0) }.joined()
}
