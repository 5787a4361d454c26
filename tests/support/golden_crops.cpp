// Cuts every golden crop of the Swift tests with examples/cpp/crop.hpp.
//
//   golden_crops images.bin < cases > crops
//
// The cases begin with the number of images and their widths and heights.

#include <cstdio>
#include <iostream>

#include "crop.hpp"

int main(int, char** argv) {
  std::ifstream file(argv[1], std::ios::binary);
  int count = 0, number = 0;
  std::cin >> count;
  std::vector<headpose::Image> images(count);
  for (auto& image : images) {
    std::cin >> image.width >> image.height;
    image.pixels.resize(3 * image.width * image.height);
    file.read(reinterpret_cast<char*>(image.pixels.data()), image.pixels.size());
  }
  headpose::Box box;
  headpose::Input input;
  while (std::cin >> number >> box[0] >> box[1] >> box[2] >> box[3]) {
    for (double& margin : input.face_margins.emplace()) std::cin >> margin;
    std::cin >> input.side >> input.resize_to >> input.squash;
    const auto crop = headpose::cut(images.at(number), box, input);
    std::fwrite(crop.pixels.data(), 1, crop.pixels.size(), stdout);
  }
  return 0;
}
