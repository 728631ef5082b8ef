import XCTest

@testable import PersonalityDevice

/// What needs no bundle: formats and rules, against values that the toolkit's own tests hold as well.
final class FormatTests: XCTestCase {
    func testFingerprintOfTheWorkedExample() throws {
        let data = try bytes(of: [1, -2, 0.5, 0, -0.0, 3], as: "float32")
        XCTAssertEqual(data.map { $0 }, [
            0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x00, 0xc0, 0x00, 0x00, 0x00, 0x3f,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x00, 0x00, 0x40, 0x40,
        ])
        XCTAssertEqual(
            fingerprint(dtype: "float32", shape: [2, 3], data: data),
            "664b6c11ca70f4e3afd9e365c3d5f65fa01db8c8279cbb093ff3bd7492d30ad7")
        XCTAssertEqual(try numbers(in: data, as: "float32"), [1, -2, 0.5, 0, -0.0, 3])
    }

    func testFloat16RoundsToEven() throws {
        // 1 + 2^-11 lies half-way between two numbers of float16, and so does 1 + 3 * 2^-11.
        let data = try bytes(of: [1.00048828125, 1.00146484375], as: "float16")
        XCTAssertEqual(data.map { $0 }, [0x00, 0x3c, 0x02, 0x3c])
        XCTAssertEqual(try numbers(in: data, as: "float16"), [1, 1.001953125])
    }

    func testPathsStayInside() {
        let folder = URL(fileURLWithPath: "/bundle")
        XCTAssertEqual(try inside(folder, "a/b.bin").path, "/bundle/a/b.bin")
        for path in ["../a", "a/../../b", "/etc/passwd", "", "a//b", "."] {
            XCTAssertThrowsError(try inside(folder, path), path)
        }
    }

    func testAHeadHasRows() throws {
        let head = try Head(weight: [1, 2, 3, 4, 5, 6], bias: [0.5, -0.5])
        XCTAssertEqual(head.logits([[1, 0, 0], [0, 0, 1]]), [[1.5, 3.5], [3.5, 5.5]])
        XCTAssertThrowsError(try Head(weight: [1, .nan], bias: [0]))
        XCTAssertThrowsError(try Head(weight: [1, 2, 3], bias: [0, 0]))
    }

    func testTopTokens() {
        XCTAssertEqual(top(3, of: [0, 2, 1, 2, -1]), [1, 3, 2])
    }
}
