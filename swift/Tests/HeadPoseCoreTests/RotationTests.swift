import XCTest

@testable import HeadPoseCore

final class RotationTests: XCTestCase {
    func testPosesAndMatricesAreThoseOfPython() throws {
        let all = try Golden.read().rotations
        for (index, one) in all.enumerated() {
            let rotation = Rotation(Pose(one.pose))
            assertClose(
                rotation.matrix.flatMap { $0 }, one.matrix.flatMap { $0 }, within: 1e-12)
            let back = Rotation(matrix: one.matrix)
            XCTAssertEqual(back.angle(to: rotation), 0, accuracy: 1e-6)
            assertClose(Rotation(vector: one.vector).matrix.flatMap { $0 },
                one.matrix.flatMap { $0 }, within: 1e-12)
            // At ±180° both vectors are right.
            if abs(rotation.angle(to: .identity) - 180) > 1e-6 {
                assertClose(rotation.vector, one.vector, within: 1e-9)
            }
            let before = Rotation(Pose(all[(index + all.count - 1) % all.count].pose))
            XCTAssertEqual(rotation.angle(to: before), one.geodesic, accuracy: 1e-9)
            if abs(abs(one.narrow[0]) - 90) < 1e-6 { continue }  // gimbal lock
            assertClose(rotation.pose(), one.narrow, within: 1e-9, "\(one.pose)")
            assertClose(rotation.pose(fullYaw: true), one.full, within: 1e-9, "\(one.pose)")
        }
    }

    func testGimbalLockGivesTheRotationBack() throws {
        for yaw in [90.0, -90.0] {
            let rotation = Rotation(Pose(yaw: yaw, pitch: 20, roll: 15))
            XCTAssertEqual(Rotation(rotation.pose()).angle(to: rotation), 0, accuracy: 1e-5)
        }
    }

    func testTheFilterIsThatOfPython() throws {
        let golden = try Golden.read().filter
        var filter = PoseFilter()
        var moved = 0.0
        for index in golden.poses.indices {
            let pose = Pose(golden.poses[index])
            let found = filter(pose, seconds: golden.seconds[index])
            assertClose(found, golden.filtered[index], within: 1e-8, "pose \(index)")
            moved += abs(found.pitch - pose.pitch)
        }
        XCTAssertGreaterThan(moved, 10)
    }

    func testPosesAreRelativeToTheZeroAsRotations() throws {
        let golden = try Golden.read().zero
        let reference = golden.reference.map { Pose($0) }
        for (direction, expected) in zip(golden.directions, golden.relative) {
            let zero = try ZeroPose(mean: reference, direction: Pose(direction))
            for (pose, relative) in zip(golden.poses, expected) {
                assertClose(zero(Pose(pose)), relative, within: 1e-9)
            }
        }
        let one = ZeroPose(Pose(golden.poses[0]))
        assertClose(one(Pose(golden.poses[0])), [0, 0, 0], within: 1e-9)
        XCTAssertThrowsError(try ZeroPose(mean: []))
    }
}
