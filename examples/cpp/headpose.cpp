// Yaw, pitch and roll of a face in an image, by MLX's C++ library alone.
//
//   headpose NETWORK.mlxfn IMAGE.ppm X,Y,WIDTH,HEIGHT
//
// `export.py --format mlxfn --for current` writes the network and the NETWORK.mlxfn.json beside it.
// The image is a binary PPM file (P6): the format that needs no library. Normalisation and decoding
// are in the network.

#include <cstdio>
#include <exception>

#include "crop.hpp"
#include "mlx/mlx.h"

namespace mx = mlx::core;

int main(int argc, char** argv) {
  float x, y, width, height;
  if (argc != 4 || std::sscanf(argv[3], "%f,%f,%f,%f", &x, &y, &width, &height) != 4) {
    std::fprintf(stderr, "usage: %s NETWORK.mlxfn IMAGE.ppm X,Y,WIDTH,HEIGHT\n", argv[0]);
    return 2;
  }
  try {
    auto network = mx::import_function(argv[1]);
    auto input = headpose::read_input(std::string(argv[1]) + ".json");
    auto face = headpose::cut(headpose::read_ppm(argv[2]), {x, y, x + width, y + height}, input);
    mx::array pixels(face.pixels.data(), {1, input.side, input.side, 3}, mx::uint8);
    mx::array pose = network({pixels}).at(0);  // (1, 3) degrees
    mx::eval(pose);
    const float* angle = pose.data<float>();
    std::printf("yaw %.4f pitch %.4f roll %.4f\n", angle[0], angle[1], angle[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
  return 0;
}
