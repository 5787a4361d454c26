// Yaw, pitch, roll and confidence of the faces in an image.
//
//   headpose NETWORK.mlxfn IMAGE X,Y,WIDTH,HEIGHT ...
//
// The image is a binary PPM file; on Apple's systems it may be any other, the boxes may be left
// out, and `--camera` in place of the image reads the camera until Ctrl-C.

import Foundation
import HeadPose

func line(_ head: Head) -> String {
    let angles = String(
        format: "yaw %.4f pitch %.4f roll %.4f", head.pose.yaw, head.pose.pitch, head.pose.roll)
    return angles + (head.confidence.map { String(format: " confidence %.4f", $0) } ?? "")
}

func box(_ text: String) throws -> Box {
    let numbers = text.split(separator: ",").map { Float($0) }
    guard numbers.count == 4, let x = numbers[0], let y = numbers[1], let width = numbers[2],
        let height = numbers[3]
    else { throw HeadPoseError("\(text): not a box; give X,Y,WIDTH,HEIGHT") }
    return Box(x: x, y: y, width: width, height: height)
}

func read(_ url: URL) throws -> RGBImage {
    #if canImport(ImageIO)
        if url.pathExtension.lowercased() != "ppm" { return try RGBImage(contentsOf: url) }
    #endif
    return try RGBImage(ppm: url)
}

func faces(_ image: RGBImage) throws -> [Box] {
    #if canImport(Vision)
        return try FaceBoxes.find(in: image)
    #else
        throw HeadPoseError("faces are found on Apple's systems only; give X,Y,WIDTH,HEIGHT")
    #endif
}

func camera(_ estimator: HeadPoseEstimator) throws {
    #if canImport(AVFoundation) && canImport(Vision) && (os(macOS) || os(iOS))
        let camera = try CameraPoses(estimator: estimator) { result in
            switch result {
            case .success(let head?): print(line(head))
            case .success(nil): print("no face")
            case .failure(let error): print("error: \(error)")
            }
        }
        camera.start()
        RunLoop.main.run()
    #else
        throw HeadPoseError("--camera: is for Apple's systems; give an image")
    #endif
}

func run(_ arguments: [String]) throws {
    guard arguments.count >= 2 else {
        throw HeadPoseError("usage: headpose NETWORK.mlxfn IMAGE|--camera [X,Y,WIDTH,HEIGHT ...]")
    }
    let estimator = try HeadPoseEstimator(contentsOf: URL(fileURLWithPath: arguments[0]))
    if arguments[1] == "--camera" { return try camera(estimator) }
    let image = try read(URL(fileURLWithPath: arguments[1]))
    let given = try arguments.dropFirst(2).map(box)
    for head in try estimator(image, boxes: given.isEmpty ? faces(image) : given) {
        print(line(head))
    }
}

do {
    try run(Array(CommandLine.arguments.dropFirst()))
} catch {
    FileHandle.standardError.write(Data("error: \(error)\n".utf8))
    exit(2)
}
