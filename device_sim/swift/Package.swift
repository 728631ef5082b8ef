// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: "PersonalityDevice",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [.library(name: "PersonalityDevice", targets: ["PersonalityDevice"])],
    targets: [
        .target(name: "PersonalityDevice"),
        .testTarget(
            name: "PersonalityDeviceTests", dependencies: ["PersonalityDevice"],
            resources: [.process("Resources")]
        ),
    ]
)
