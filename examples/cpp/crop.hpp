// From a face box to the network's input, byte by byte as Python cuts it. Needs no library.
//
// The margins, the side and the resize rule are read from the JSON that `export.py` writes beside a
// .mlxfn file.

#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace headpose {

// Rows from the top, each pixel as red, green, blue.
struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> pixels;
};

// What is added to a box at x_min, y_min, x_max and y_max, as shares of its width and height; nothing
// where a network's follow a rule of their own, which only mlx-headpose has.
using Margins = std::optional<std::array<double, 4>>;

// How a face becomes the network's input.
struct Input {
  int side = 0, resize_to = 0;
  bool squash = false;
  Margins face_margins, head_margins;
};

// x_min, y_min, x_max, y_max in pixels: float, as detectors give it and as Python takes it.
using Box = std::array<float, 4>;

// A binary PPM file.
inline Image read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  Image image;
  int largest = 0;
  file >> magic >> image.width >> image.height >> largest;
  file.ignore(1);
  const auto plausible = [](int length) { return length > 0 && length <= 32768; };
  if (!file || magic != "P6" || largest != 255 || !plausible(image.width) ||
      !plausible(image.height)) {
    throw std::runtime_error(path + ": not a binary PPM image of 8 bits");
  }
  image.pixels.resize(static_cast<size_t>(image.width) * image.height * 3);
  const auto bytes = static_cast<std::streamsize>(image.pixels.size());
  file.read(reinterpret_cast<char*>(image.pixels.data()), bytes);
  if (file.gcount() != bytes) throw std::runtime_error(path + ": the image is cut short");
  return image;
}

// The "input" of a network's metadata; throws where the network's crop follows a rule of its own,
// which only mlx-headpose has. This looks for the keys that export.py writes; a program
// with a JSON library at hand had better use that.
inline Input read_input(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const size_t start = text.find("\"input\"");
  const std::runtime_error foreign(path + ": is not the metadata of a network that reads images");
  const auto after = [&](const std::string& key) {
    size_t at = start == std::string::npos ? start : text.find("\"" + key + "\":", start);
    if (at != std::string::npos) at = text.find_first_not_of(" \n[\"", at + key.size() + 3);
    if (at == std::string::npos) throw foreign;
    return text.c_str() + at;
  };
  Input input;
  input.side = std::atoi(after("side"));
  input.resize_to = std::atoi(after("resize_to"));
  const auto is = [&](const std::string& key, const std::string& value) {
    return text.compare(after(key) - text.c_str(), value.size(), value) == 0;
  };
  const auto margins = [&](const std::string& key) {
    Margins values;
    if (is(key, "null")) return values;
    const char* at = after(key);
    for (double& value : values.emplace()) {
      char* end = nullptr;
      value = std::strtod(at, &end);
      if (end == at || !std::isfinite(value)) throw foreign;
      at = end + (*end == ',');
    }
    return values;
  };
  // Files of versions before 2 say nothing of the last two.
  const auto silent = [&](const std::string& key) {
    return text.find("\"" + key + "\":", start) == std::string::npos;
  };
  input.squash = is("resize", "squash\"");
  input.face_margins = margins("face_margins");
  input.head_margins = margins("head_margins");
  if (!(input.squash || is("resize", "short_side\"")) ||
      !(input.face_margins || input.head_margins) ||
      !(silent("filter") || is("filter", "bilinear\"")) ||
      !(silent("clip") || is("clip", "false"))) {
    throw std::runtime_error(path + ": its network's crop follows a rule of its own");
  }
  if (input.side < 1 || input.resize_to < input.side || input.resize_to > 8192) {
    throw std::runtime_error(path + ": names an impossible input size");
  }
  return input;
}

// Weights of Pillow's bilinear filter with antialiasing, in its fixed point of 22 bits: of each
// output pixel, those of the source pixels that lie in the image. What lies outside is black.
struct Taps {
  int first;
  std::vector<int32_t> weights;
};

inline std::vector<Taps> taps(int source, int start, int limit, int scaled, int side) {
  const double scale = static_cast<double>(source) / scaled;
  const double support = std::max(scale, 1.0), inverse = 1 / support;
  // Python rounds halves to even.
  const int first = static_cast<int>(std::nearbyint((scaled - side) / 2.0));
  std::vector<Taps> all;
  for (int i = first; i < first + side; ++i) {
    const double centre = (i + 0.5) * scale;
    const int low = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int high = std::min(static_cast<int>(centre + support + 0.5), source);
    std::vector<double> values;
    double sum = 0;
    for (int x = low; x < high; ++x) {
      values.push_back(std::max(0.0, 1 - std::abs((x - centre + 0.5) * inverse)));
      sum += values.back();
    }
    Taps one{std::max(start + low, 0), {}};
    for (int x = low; x < high; ++x) {
      if (start + x < 0 || start + x >= limit) continue;
      one.weights.push_back(static_cast<int32_t>(0.5 + values[x - low] / sum * (1 << 22)));
    }
    if (one.weights.empty()) one.first = 0;
    all.push_back(one);
  }
  return all;
}

// A part of an image, black beyond it, scaled to the network's input.
inline Image resampled(const Image& image, int x, int y, int width, int height,
                       const Input& input) {
  int across = input.resize_to, down = input.resize_to;
  if (!input.squash && width <= height) {
    down = static_cast<int>(static_cast<double>(down) * height / width);
  } else if (!input.squash) {
    across = static_cast<int>(static_cast<double>(across) * width / height);
  }
  const auto columns = taps(width, x, image.width, across, input.side);
  const auto rows = taps(height, y, image.height, down, input.side);

  // First across, then down, with 8 bits between the two.
  const auto byte = [](int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> 22, 0, 255)); };
  Image middle{input.side, image.height, {}}, result{input.side, input.side, {}};
  middle.pixels.resize(static_cast<size_t>(input.side) * image.height * 3);
  result.pixels.resize(static_cast<size_t>(input.side) * input.side * 3);
  const int stride = 3 * input.side;
  for (int row = std::max(y, 0); row < std::min(y + height, image.height); ++row) {
    for (int i = 0; i < stride; ++i) {
      const Taps& one = columns[i / 3];
      const uint8_t* at = &image.pixels[(static_cast<size_t>(row) * image.width + one.first) * 3];
      int32_t sum = 1 << 21;
      for (size_t t = 0; t < one.weights.size(); ++t) sum += one.weights[t] * at[3 * t + i % 3];
      middle.pixels[static_cast<size_t>(row) * stride + i] = byte(sum);
    }
  }
  for (int row = 0; row < input.side; ++row) {
    const Taps& one = rows[row];
    for (int i = 0; i < stride; ++i) {
      int32_t sum = 1 << 21;
      for (size_t t = 0; t < one.weights.size(); ++t) {
        sum += one.weights[t] * middle.pixels[(one.first + t) * stride + i];
      }
      result.pixels[static_cast<size_t>(row) * stride + i] = byte(sum);
    }
  }
  return result;
}

// Pillow's Image.reduce: the mean of each square of so many pixels, or of what an edge leaves of it.
inline Image reduced(const Image& image, int times) {
  Image small{(image.width + times - 1) / times, (image.height + times - 1) / times, {}};
  small.pixels.reserve(static_cast<size_t>(small.width) * small.height * 3);
  for (int top = 0; top < image.height; top += times) {
    for (int left = 0; left < image.width; left += times) {
      const int bottom = std::min(top + times, image.height);
      const int right = std::min(left + times, image.width);
      const uint32_t count = (right - left) * (bottom - top);
      const auto share = static_cast<uint32_t>(4294967296.0f / static_cast<float>(256 * count));
      for (int channel = 0; channel < 3; ++channel) {
        uint32_t sum = count / 2;
        for (int y = top; y < bottom; ++y) {
          for (int x = left; x < right; ++x) {
            sum += image.pixels[(static_cast<size_t>(y) * image.width + x) * 3 + channel];
          }
        }
        small.pixels.push_back(static_cast<uint8_t>(sum * share >> 24));
      }
    }
  }
  return small;
}

// Python takes the middle of a crop that is longer than so many times its shorter side, and cuts a
// crop of more pixels out of the image at a half, a third, ....
constexpr int longest = 50;
constexpr double max_crop_pixels = 80e6;

// The network's input. For boxes of whole heads, give the input's head_margins.
inline Image cut(const Image& image, Box box, const Input& input, const Margins& around) {
  if (!around) {
    throw std::runtime_error("this network's crop of such boxes follows a rule of its own");
  }
  const auto& margins = *around;
  double left = box[0], top = box[1], right = box[2], bottom = box[3];
  if (!(left < right && top < bottom && std::isfinite(right - left + bottom - top))) {
    throw std::runtime_error("a box must have x_max > x_min and y_max > y_min");
  }
  // Each side sees the box that the sides before it moved.
  left -= margins[0] * std::abs(right - left);
  top -= margins[1] * std::abs(bottom - top);
  right += margins[2] * std::abs(right - left);
  bottom += margins[3] * std::abs(bottom - top);
  const auto whole = [](double value, int length) {
    return static_cast<int>(std::clamp(value, -1.0 * length, 2.0 * length));
  };
  int x = whole(left, image.width), y = whole(top, image.height);
  int width = std::max(whole(right, image.width) - x, 1);
  int height = std::max(whole(bottom, image.height) - y, 1);
  if (!input.squash) {
    const int more_across = std::max(width - longest * height, 0);
    const int more_down = std::max(height - longest * width, 0);
    x += more_across / 2, y += more_down / 2;
    width -= more_across, height -= more_down;
  }
  const double pixels = static_cast<double>(width) * height;
  const int times = static_cast<int>(std::ceil(std::sqrt(pixels / max_crop_pixels)));
  if (times <= 1) return resampled(image, x, y, width, height, input);
  const auto divided = [&](int value) {
    return static_cast<int>(std::floor(static_cast<double>(value) / times));
  };
  const int first = divided(x), upper = divided(y);
  return resampled(reduced(image, times), first, upper, std::max(divided(x + width) - first, 1),
                   std::max(divided(y + height) - upper, 1), input);
}

inline Image cut(const Image& image, Box box, const Input& input) {
  return cut(image, box, input, input.face_margins);
}

}  // namespace headpose
