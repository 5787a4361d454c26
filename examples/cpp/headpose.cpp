// Yaw, pitch and roll of one cut-out face, by MLX's C++ library alone.
//
//   headpose network.mlxfn face.ppm
//
// `export.py --format mlxfn` writes the first, `face.ppm` is the crop at the network's size, in
// binary PPM (P6): the format that needs no library. Normalisation and decoding are in the network.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "mlx/mlx.h"

namespace mx = mlx::core;

// A binary PPM file as a (1, height, width, 3) array of bytes.
mx::array read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  int width = 0, height = 0, largest = 0;
  file >> magic >> width >> height >> largest;
  file.ignore(1);
  const bool plausible = width > 0 && height > 0 && width <= 8192 && height <= 8192;
  if (!file || magic != "P6" || largest != 255 || !plausible) {
    throw std::runtime_error(path + ": not a binary PPM picture of 8 bits");
  }
  std::vector<uint8_t> pixels(static_cast<size_t>(width) * height * 3);
  file.read(reinterpret_cast<char*>(pixels.data()), static_cast<std::streamsize>(pixels.size()));
  if (file.gcount() != static_cast<std::streamsize>(pixels.size())) {
    throw std::runtime_error(path + ": the picture is cut short");
  }
  return mx::array(pixels.data(), {1, height, width, 3}, mx::uint8);
}

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s network.mlxfn face.ppm\n", argv[0]);
    return 2;
  }
  try {
    auto network = mx::import_function(argv[1]);
    std::vector<mx::array> outputs = network({read_ppm(argv[2])});
    mx::array pose = outputs.at(0);  // (1, 3) degrees; the rest are probabilities of the bins
    mx::eval(pose);
    const float* angle = pose.data<float>();
    std::printf("yaw %.4f pitch %.4f roll %.4f\n", angle[0], angle[1], angle[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
  return 0;
}
