// Classify a binary PPM image with the model of a bundle: C++17 and ONNX Runtime.
//   g++ -std=c++17 -O2 classify.cpp -I ORT/include -L ORT/lib -lonnxruntime -o classify && ./classify BUNDLE photo.ppm
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <regex>
#include <sstream>

struct Image { int width, height; std::vector<uint8_t> rgb; };

std::string text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The value of a name in flat JSON, without punctuation: a number, a word, or several numbers.
std::istringstream value(const std::string& json, const std::string& name) {
  std::smatch found;
  if (!std::regex_search(json, found, std::regex("\"" + name + "\"\\s*:\\s*(\\[[^\\]]*\\]|[^,}\\s]+)")))
    throw std::runtime_error(name + " is missing");
  return std::istringstream(std::regex_replace(found[1].str(), std::regex("[\\[\\]\",]"), " "));
}

template <typename T> T one(const std::string& json, const std::string& name) { T t; value(json, name) >> t; return t; }

Image open_ppm(const std::string& path) {
  std::istringstream file(text(path));
  std::string kind, largest;
  Image image{};
  file >> kind >> image.width >> image.height >> largest;
  const int shorter = std::min(image.width, image.height), longer = std::max(image.width, image.height);
  if (kind == "P6" && largest == "255" && shorter > 0 && longer < 16000) {
    image.rgb.resize(size_t(3) * image.width * image.height);
    if (file.ignore(1).read(reinterpret_cast<char*>(image.rgb.data()), image.rgb.size())) return image;
  }
  throw std::runtime_error(path + " is not a whole binary PPM image with 8 bits and fewer than 16000 pixels a side");
}

double weight(double x, bool cubic) {
  if (!cubic) return std::max(0.0, 1 - x);
  return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

// Resize the width with antialiasing, and transpose. Two calls resize both sides; each rounds to 8 bits, as Pillow does.
Image resized_transposed(const Image& from, int size, bool cubic) {
  Image to{from.height, size, std::vector<uint8_t>(size_t(3) * from.height * size)};
  const double scale = double(from.width) / size, wide = std::max(scale, 1.0), support = (cubic ? 2 : 1) * wide;
  for (int at = 0; at < size; ++at) {
    const double center = (at + 0.5) * scale;
    const int first = std::max(0.0, center - support + 0.5), last = std::min<double>(from.width, center + support + 0.5);
    std::vector<double> weights;
    double total = 0;
    for (int x = first; x < last; ++x) total += weights.emplace_back(weight(std::abs(x - center + 0.5) / wide, cubic));
    for (int i = 0; i < 3 * from.height; ++i) {  // every row and channel
      double sum = 0.5;
      for (int x = first; x < last; ++x)
        sum += weights[x - first] / total * from.rgb[3 * (size_t(i / 3) * from.width + x) + i % 3];
      to.rgb[size_t(3) * at * to.width + i] = uint8_t(std::clamp(sum, 0.0, 255.0));
    }
  }
  return to;
}

std::vector<float> preprocessed(const Image& image, const std::string& steps, int size) {
  const int side = size / one<double>(steps, "crop_pct"), shorter = std::min(image.width, image.height);
  const bool cubic = one<std::string>(steps, "interpolation") == "bicubic";
  const bool stretch = one<std::string>(steps, "resize") == "stretch";
  const int64_t width = stretch ? side : int64_t(side) * image.width / shorter;
  const int64_t height = stretch ? side : int64_t(side) * image.height / shorter;
  const Image whole = resized_transposed(resized_transposed(image, width, cubic), height, cubic);
  std::vector<float> planes;
  auto means = value(steps, "mean"), deviations = value(steps, "std");
  for (float channel = 0, mean, deviation; channel < 3 && means >> mean && deviations >> deviation; ++channel)
    for (int64_t y = (height - size) / 2, x = (width - size) / 2, i = 0; i < size * size; ++i)
      planes.push_back((whole.rgb[3 * ((y + i / size) * width + x + i % size) + int(channel)] / 255.0f - mean) / deviation);
  return planes;
}

int main(int count, char** words) try {
  if (count != 3) throw std::runtime_error("usage: classify BUNDLE IMAGE.ppm");
  const std::string folder = std::string(words[1]) + "/";
  const std::string about = text(folder + "bundle.json"), steps = text(folder + "preprocess.json");
  const int64_t size = one<int64_t>(steps, "img_size"), shape[] = {1, 3, size, size};
  std::vector<float> pixels = preprocessed(open_ppm(words[2]), steps, size);

  Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "classify");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(one<int>(about, "threads"));
  Ort::Session session(environment, (folder + one<std::string>(about, "model")).c_str(), options);
  const char *inputs[] = {"image"}, *outputs[] = {"logits"};  // in every export; a second output is the embedding
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto tensor = Ort::Value::CreateTensor<float>(memory, pixels.data(), pixels.size(), shape, 4);
  const auto answers = session.Run(Ort::RunOptions{nullptr}, inputs, &tensor, 1, outputs, 1);
  const float* logits = answers[0].GetTensorData<float>();
  const size_t classes = answers[0].GetTensorTypeAndShapeInfo().GetElementCount();

  double total = 0;
  for (size_t row = 0; row < classes; ++row) total += std::exp(double(logits[row]) - logits[0]);
  std::istringstream labels(text(folder + "labels.txt"));
  std::string label;
  for (size_t row = 0; row < classes && std::getline(labels, label); ++row)
    std::cout << std::exp(double(logits[row]) - logits[0]) / total << "\t" << label << "\n";
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << "\n";
  return 1;
}
