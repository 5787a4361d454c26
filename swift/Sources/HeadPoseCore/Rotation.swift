import Foundation

/// Yaw, pitch and roll in degrees, with the signs of docs/conventions.md: positive yaw turns the
/// nose to the image's left, positive pitch lifts it, positive roll turns the head clockwise as the
/// viewer sees it.
public struct Pose: Equatable, Sendable {
    public var yaw: Double
    public var pitch: Double
    public var roll: Double

    public init(yaw: Double, pitch: Double, roll: Double) {
        self.yaw = yaw
        self.pitch = pitch
        self.roll = roll
    }
}

/// The same angle in (−180, 180] degrees.
public func wrap(_ angle: Double) -> Double {
    var angle = angle - 360 * (angle / 360).rounded(.toNearestOrEven)
    if angle > 180 { angle -= 360 }
    return angle <= -180 ? angle + 360 : angle
}

/// A rotation, as a unit quaternion w + xi + yj + zk.
///
/// That of a pose turns a frontal head in image axes (x right, y down, z towards the viewer):
/// D = Rx(pitch) · Ry(−yaw) · Rz(roll).
public struct Rotation: Equatable, Sendable {
    public let w: Double
    public let x: Double
    public let y: Double
    public let z: Double

    public static let identity = Rotation(w: 1, x: 0, y: 0, z: 0)

    private init(w: Double, x: Double, y: Double, z: Double) {
        let length = (w * w + x * x + y * y + z * z).squareRoot()
        self.w = w / length
        self.x = x / length
        self.y = y / length
        self.z = z / length
    }

    public init(_ pose: Pose) {
        func half(_ degrees: Double) -> (cos: Double, sin: Double) {
            let angle = degrees * .pi / 360
            return (cos(angle), sin(angle))
        }
        let (pitch, yaw, roll) = (half(pose.pitch), half(-pose.yaw), half(pose.roll))
        self =
            Rotation(w: pitch.cos, x: pitch.sin, y: 0, z: 0)
            * Rotation(w: yaw.cos, x: 0, y: yaw.sin, z: 0)
            * Rotation(w: roll.cos, x: 0, y: 0, z: roll.sin)
    }

    /// - Parameter matrix: three rows of three, orthogonal up to rounding.
    public init(matrix m: [[Double]]) {
        // Four times the outer product of the quaternion with itself. Each row is the quaternion up
        // to a factor; the one with the largest diagonal entry has no cancellation.
        let outer = [
            [1 + m[0][0] + m[1][1] + m[2][2], m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]],
            [m[2][1] - m[1][2], 1 + m[0][0] - m[1][1] - m[2][2], m[1][0] + m[0][1], m[0][2] + m[2][0]],
            [m[0][2] - m[2][0], m[1][0] + m[0][1], 1 - m[0][0] + m[1][1] - m[2][2], m[2][1] + m[1][2]],
            [m[1][0] - m[0][1], m[0][2] + m[2][0], m[2][1] + m[1][2], 1 - m[0][0] - m[1][1] + m[2][2]],
        ]
        let best = (0..<4).max { outer[$0][$0] < outer[$1][$1] }!
        let row = outer[best]
        self.init(w: row[0], x: row[1], y: row[2], z: row[3])
    }

    /// - Parameter vector: an axis whose length is the angle in radians.
    public init(vector: [Double]) {
        let angle = (vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2])
            .squareRoot()
        // sin(angle / 2) / angle, which tends to a half.
        let factor = angle < 1e-6 ? 0.5 - angle * angle / 48 : sin(angle / 2) / angle
        self.init(
            w: cos(angle / 2), x: factor * vector[0], y: factor * vector[1], z: factor * vector[2])
    }

    /// The axis times the angle in radians, at most π.
    public var vector: [Double] {
        let sign = w < 0 ? -1.0 : 1.0
        let sine = (x * x + y * y + z * z).squareRoot()
        let angle = 2 * atan2(sine, sign * w)
        let factor = sign * (sine < 1e-9 ? 2 : angle / sine)
        return [factor * x, factor * y, factor * z]
    }

    /// Three rows of three.
    public var matrix: [[Double]] {
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    }

    public var inverse: Rotation { Rotation(w: w, x: -x, y: -y, z: -z) }

    /// First `b`, then `a`.
    public static func * (a: Rotation, b: Rotation) -> Rotation {
        Rotation(
            w: a.w * b.w - a.x * b.x - a.y * b.y - a.z * b.z,
            x: a.w * b.x + a.x * b.w + a.y * b.z - a.z * b.y,
            y: a.w * b.y - a.x * b.z + a.y * b.w + a.z * b.x,
            z: a.w * b.z + a.x * b.y - a.y * b.x + a.z * b.w)
    }

    /// The angle of the one rotation that leads to another, in degrees.
    public func angle(to other: Rotation) -> Double {
        let vector = (inverse * other).vector
        let square = vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]
        return square.squareRoot() * 180 / .pi
    }

    /// The mean of rotations: the largest eigenvector of the sum of their quaternions' outer
    /// products, by power iteration from a start near it.
    static func mean(_ rotations: [Rotation], near start: Rotation) -> Rotation {
        var mean = start
        for _ in 0..<50 {
            var (w, x, y, z) = (0.0, 0.0, 0.0, 0.0)
            for q in rotations {
                let cosine = mean.w * q.w + mean.x * q.x + mean.y * q.y + mean.z * q.z
                w += cosine * q.w
                x += cosine * q.x
                y += cosine * q.y
                z += cosine * q.z
            }
            mean = Rotation(w: w, x: x, y: y, z: z)
        }
        return mean
    }

    /// Yaw, pitch and roll.
    ///
    /// Two triples give every rotation. At a yaw of ±90° only a sum or difference of pitch and roll
    /// is defined; roll is 0 there.
    ///
    /// - Parameter fullYaw: false takes the triple with yaw within ±90°; true takes the one with the
    ///   smaller |pitch| + |roll|, so that a head seen from behind has a yaw near 180°.
    public func pose(fullYaw: Bool = false) -> Pose {
        let m = matrix
        let cosine = (m[0][0] * m[0][0] + m[0][1] * m[0][1]).squareRoot()
        let yaw = atan2(-m[0][2], cosine)
        let roll = cosine < 1e-6 ? 0 : atan2(-m[0][1], m[0][0])
        let (s, c) = (sin(roll), cos(roll))
        let pitch = atan2(s * m[2][0] + c * m[2][1], s * m[1][0] + c * m[1][1])
        let degrees = 180 / Double.pi
        let pose = Pose(
            yaw: wrap(yaw * degrees), pitch: wrap(pitch * degrees), roll: wrap(roll * degrees))
        guard fullYaw, abs(pose.pitch) + abs(pose.roll) > 180 else { return pose }
        return Pose(
            yaw: wrap(180 - pose.yaw), pitch: wrap(pose.pitch + 180), roll: wrap(pose.roll + 180))
    }

    /// Of the two triples the one nearer to a pose.
    func pose(near pose: Pose) -> Pose {
        func distance(_ other: Pose) -> Double {
            abs(wrap(other.yaw - pose.yaw)) + abs(wrap(other.pitch - pose.pitch))
                + abs(wrap(other.roll - pose.roll))
        }
        let (narrow, full) = (self.pose(), self.pose(fullYaw: true))
        return distance(full) < distance(narrow) ? full : narrow
    }
}
