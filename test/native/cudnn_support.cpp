// Builds every convolution that ResNet-18, -20 and -50 with widths 1, 0.75, 0.5 and 0.25 need, as cuDNN plans for
// devices that are only described (no GPU, no driver), in float32, bfloat16 and float16; prints what is supported and
// fails where something is not. Usage: cudnn_support DEVICE.json…
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>

#include "cuda/convolution_plan.h"

using namespace slimclr::cuda;

namespace {

const double kWidths[] = {1, 0.75, 0.5, 0.25};
constexpr int64_t kImageChannels = 3;

// A convolution of the full network; `image`: its input is the picture, which no width makes narrower.
struct Layer {
  int64_t in, out, size, kernel, stride;
  bool image = false;
};

struct Network {
  const char* name;
  int64_t batch;
  std::vector<Layer> layers;
};

// Blocks of two 3×3 convolutions, with a 1×1 projection where the shape changes.
void add_basic_stage(std::vector<Layer>& layers, int64_t in, int64_t out, int64_t size, int64_t stride) {
  layers.push_back({in, out, size, 3, stride});
  layers.push_back({out, out, size / stride, 3, 1});
  if (in != out) layers.push_back({in, out, size, 1, stride});
}

// Blocks of 1×1, 3×3 and 1×1 convolutions that widen fourfold.
void add_bottleneck_stage(std::vector<Layer>& layers, int64_t in, int64_t width, int64_t size, int64_t stride) {
  layers.push_back({in, width, size, 1, 1});
  layers.push_back({width, width, size, 3, stride});
  layers.push_back({width, width * 4, size / stride, 1, 1});
  layers.push_back({in, width * 4, size, 1, stride});
  layers.push_back({width * 4, width, size / stride, 1, 1});
  layers.push_back({width, width, size / stride, 3, 1});
}

std::vector<Network> networks() {
  Network r18{"ResNet-18, 32x32, batch 512", 512, {{kImageChannels, 64, 32, 3, 1, true}}};
  for (int64_t s = 0; s < 4; ++s)
    add_basic_stage(r18.layers, s == 0 ? 64 : 32 << s, 64 << s, s == 0 ? 32 : 64 >> s, s == 0 ? 1 : 2);
  Network r20{"ResNet-20, 32x32, batch 512", 512, {{kImageChannels, 16, 32, 3, 1, true}}};
  for (int64_t s = 0; s < 3; ++s)
    add_basic_stage(r20.layers, s == 0 ? 16 : 8 << s, 16 << s, s == 0 ? 32 : 64 >> s, s == 0 ? 1 : 2);
  Network r50{"ResNet-50, 224x224, batch 256", 256, {{kImageChannels, 64, 224, 7, 2, true}}};
  for (int64_t s = 0; s < 4; ++s)
    add_bottleneck_stage(r50.layers, s == 0 ? 64 : 128 << s, 64 << s, s == 0 ? 56 : 112 >> s, s == 0 ? 1 : 2);
  return {r18, r20, r50};
}

// As the backend pads them.
int64_t padded(int64_t channels) { return (channels + 7) / 8 * 8; }

std::set<ConvolutionShape> shapes_of(const Network& network, Precision precision) {
  std::set<ConvolutionShape> shapes;
  for (const Layer& l : network.layers)
    for (double width : kWidths)
      for (ConvolutionPass pass :
           {ConvolutionPass::forward, ConvolutionPass::backward_data, ConvolutionPass::backward_weights}) {
        if (l.image && pass == ConvolutionPass::backward_data) continue;
        const int64_t in = l.image ? l.in : static_cast<int64_t>(static_cast<double>(l.in) * width);
        const int64_t out = static_cast<int64_t>(static_cast<double>(l.out) * width);
        const int64_t padding = l.kernel / 2, end = (l.size + 2 * padding - l.kernel) / l.stride + 1;
        shapes.insert({pass, precision, network.batch, padded(in), l.size, l.size, padded(out), end, end, l.kernel,
                       l.kernel, l.stride, padding});
      }
  return shapes;
}

std::string contents(const char* file) {
  std::ifstream stream(file);
  std::stringstream text;
  text << stream.rdbuf();
  return text.str();
}

}  // namespace

int main(int count, char** files) {
  bool all = true;
  std::cout << "cuDNN " << Convolutions::version() << ", plans made without a device\n";
  for (int f = 1; f < count; ++f) {
    const Convolutions convolutions(contents(files[f]));
    for (const Network& network : networks())
      for (auto [name, precision] :
           {std::pair{"fp32", Precision::f32}, {"bf16", Precision::bf16}, {"fp16", Precision::f16}}) {
        int supported = 0, rounded = 0;
        const std::set<ConvolutionShape> shapes = shapes_of(network, precision);
        size_t workspace = 0;
        for (ConvolutionShape shape : shapes) {
          std::string why;
          auto plans = convolutions.plans(shape, 1, &why);
          if (plans.empty() && precision == Precision::f32) {
            shape.precision = Precision::tf32;  // as the backend does
            plans = convolutions.plans(shape, 1, &why);
            rounded += !plans.empty();
          }
          if (plans.empty()) {
            std::cout << "  NOT SUPPORTED: " << to_string(shape) << ": " << why << '\n';
            all = false;
          } else {
            ++supported;
            workspace = std::max(workspace, plans[0]->workspace_bytes());
            // As a later process makes it of what this one chose.
            const auto again = convolutions.plan(shape, plans[0]->choice());
            if (!again || again->choice() != plans[0]->choice() ||
                again->workspace_bytes() != plans[0]->workspace_bytes()) {
              std::cout << "  NOT REBUILT from its choice: " << to_string(shape) << '\n';
              all = false;
            }
          }
        }
        std::cout << files[f] << "  " << network.name << "  " << name << "  " << supported << " of " << shapes.size()
                  << " graphs" << (rounded ? ", " + std::to_string(rounded) + " of them in TF32" : "")
                  << ", largest workspace " << (workspace >> 20) << " MiB" << std::endl;
      }
  }
  return all ? 0 : 1;
}
