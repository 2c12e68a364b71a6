#include "cuda/convolution_plan.h"

#include <cudnn.h>

#include <array>
#include <optional>

#include "core/error.h"
#include "cuda/library.h"

namespace slimclr::cuda {

namespace {

struct Api {
  decltype(cudnnGetVersion)* version;
  decltype(cudnnGetErrorString)* error_string;
  decltype(cudnnGetLastErrorString)* last_error;
  decltype(cudnnCreate)* create;
  decltype(cudnnDestroy)* destroy;
  decltype(cudnnSetStream)* set_stream;
  decltype(cudnnBackendCreateDescriptor)* create_descriptor;
  decltype(cudnnBackendDestroyDescriptor)* destroy_descriptor;
  decltype(cudnnBackendSetAttribute)* set_attribute;
  decltype(cudnnBackendGetAttribute)* get_attribute;
  decltype(cudnnBackendFinalize)* finalize;
  decltype(cudnnBackendExecute)* execute;

  Api() {
    Library library("cuDNN 9", places("libcudnn.so.9", {"CUDNN_ROOT"}, SLIMCLR_CUDNN_FOLDER));
    library.load(version, "cudnnGetVersion");
    library.load(error_string, "cudnnGetErrorString");
    library.load(last_error, "cudnnGetLastErrorString");
    library.load(create, "cudnnCreate");
    library.load(destroy, "cudnnDestroy");
    library.load(set_stream, "cudnnSetStream");
    library.load(create_descriptor, "cudnnBackendCreateDescriptor");
    library.load(destroy_descriptor, "cudnnBackendDestroyDescriptor");
    library.load(set_attribute, "cudnnBackendSetAttribute");
    library.load(get_attribute, "cudnnBackendGetAttribute");
    library.load(finalize, "cudnnBackendFinalize");
    library.load(execute, "cudnnBackendExecute");
  }
};

// Loaded on first use.
const Api& api() {
  static const Api loaded;
  return loaded;
}

// cuDNN's refusal of a graph, a plan or an execution.
class Refusal : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

void check(cudnnStatus_t status, const char* step) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 512> message = {};
  api().last_error(message.data(), message.size());
  throw Refusal(concat("cuDNN failed to ", step, ": ", api().error_string(status), ". ", message.data()));
}

class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type) {
    check(api().create_descriptor(type, &descriptor_), "create a descriptor");
  }
  ~Descriptor() {
    if (descriptor_) api().destroy_descriptor(descriptor_);
  }
  Descriptor(Descriptor&& other) noexcept : descriptor_(other.descriptor_) { other.descriptor_ = nullptr; }
  Descriptor(const Descriptor&) = delete;
  cudnnBackendDescriptor_t get() const { return descriptor_; }

  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void* values) {
    check(api().set_attribute(descriptor_, name, type, count, values), "set an attribute");
  }
  void set(cudnnBackendAttributeName_t name, int64_t value) { set(name, CUDNN_TYPE_INT64, 1, &value); }
  void set(cudnnBackendAttributeName_t name, const std::vector<int64_t>& values) {
    set(name, CUDNN_TYPE_INT64, static_cast<int64_t>(values.size()), values.data());
  }
  void set(cudnnBackendAttributeName_t name, cudnnDataType_t value) { set(name, CUDNN_TYPE_DATA_TYPE, 1, &value); }
  void set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.descriptor_);
  }
  void finalize(const char* step) { check(api().finalize(descriptor_), step); }

  int64_t get_int64(cudnnBackendAttributeName_t name) const {
    int64_t value = 0, count = 0;
    check(api().get_attribute(descriptor_, name, CUDNN_TYPE_INT64, 1, &count, &value), "read an attribute");
    return value;
  }

 private:
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

cudnnDataType_t type_of(Precision precision) {
  return precision == Precision::bf16  ? CUDNN_DATA_BFLOAT16
         : precision == Precision::f16 ? CUDNN_DATA_HALF
                                       : CUDNN_DATA_FLOAT;
}

// The tensors of a graph by their numbers.
enum Uid : int64_t { kX = 1, kW = 2, kY = 3 };

// A tensor of dimensions [n, c, h, w], stored as [n][h][w][c].
Descriptor tensor(Uid uid, int64_t n, int64_t c, int64_t h, int64_t w, cudnnDataType_t type) {
  Descriptor t(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  t.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, uid);
  t.set(CUDNN_ATTR_TENSOR_DATA_TYPE, type);
  t.set(CUDNN_ATTR_TENSOR_DIMENSIONS, std::vector<int64_t>{n, c, h, w});
  t.set(CUDNN_ATTR_TENSOR_STRIDES, std::vector<int64_t>{h * w * c, 1, w * c, c});
  t.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, int64_t{16});
  t.finalize("describe a tensor");
  return t;
}

Descriptor convolution(const ConvolutionShape& s) {
  Descriptor d(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  d.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, int64_t{2});
  d.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
  d.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
  d.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, std::vector<int64_t>{s.padding, s.padding});
  d.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, std::vector<int64_t>{s.padding, s.padding});
  d.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, std::vector<int64_t>{1, 1});
  d.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, std::vector<int64_t>{s.stride, s.stride});
  d.finalize("describe a convolution");
  return d;
}

// The attributes of the three kinds of convolution, which cuDNN names one by one.
struct OperationNames {
  cudnnBackendDescriptorType_t type;
  cudnnBackendAttributeName_t alpha, beta, convolution, x, w, y;
};
OperationNames names_of(ConvolutionPass pass) {
  switch (pass) {
    case ConvolutionPass::forward:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y};
    case ConvolutionPass::backward_data:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY};
    case ConvolutionPass::backward_weights:
      break;
  }
  return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY};
}

// Every descriptor of a graph, kept as long as its plans.
struct Graph {
  std::vector<Descriptor> parts;
  Descriptor graph{CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR};
};

std::shared_ptr<Graph> make_graph(const ConvolutionShape& s, cudnnHandle_t handle) {
  auto g = std::make_shared<Graph>();
  const OperationNames names = names_of(s.pass);
  const cudnnDataType_t type = type_of(s.precision);
  Descriptor x = tensor(kX, s.n, s.c, s.h, s.w, type), y = tensor(kY, s.n, s.k, s.oh, s.ow, type);
  Descriptor w = tensor(kW, s.k, s.c, s.kernel_h, s.kernel_w, type);
  Descriptor window = convolution(s);
  const float one = 1, zero = 0;
  Descriptor operation(names.type);
  operation.set(names.convolution, window);
  operation.set(names.x, x);
  operation.set(names.w, w);
  operation.set(names.y, y);
  operation.set(names.alpha, CUDNN_TYPE_FLOAT, 1, &one);
  operation.set(names.beta, CUDNN_TYPE_FLOAT, 1, &zero);
  operation.finalize("describe the operation");
  const cudnnBackendDescriptor_t operations[] = {operation.get()};
  if (handle) g->graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
  g->graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, operations);
  g->graph.finalize("build the graph");
  for (Descriptor* part : {&x, &y, &w, &window, &operation}) g->parts.push_back(std::move(*part));
  return g;
}

Descriptor engine_of(const Descriptor& config) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t raw = engine.get();
  int64_t count = 0;
  check(api().get_attribute(config.get(), CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &raw),
        "read the engine");
  return engine;
}

PlanChoice choice_of(const Descriptor& config) {
  PlanChoice choice;
  choice.engine = engine_of(config).get_int64(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
  std::vector<Descriptor> knobs;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int i = 0; i < CUDNN_KNOB_TYPE_COUNTS; ++i) {
    knobs.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    raw.push_back(knobs.back().get());
  }
  int64_t count = 0;
  check(api().get_attribute(config.get(), CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                            CUDNN_KNOB_TYPE_COUNTS, &count, raw.data()),
        "read the knobs");
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    cudnnBackendKnobType_t type{};
    int64_t one = 0;
    check(api().get_attribute(knobs[i].get(), CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &one, &type),
          "read a knob");
    choice.knobs.push_back({type, knobs[i].get_int64(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE)});
  }
  return choice;
}

// The inverse of choice_of.
Descriptor config_of(const Graph& graph, const PlanChoice& choice, const Descriptor* device) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  engine.set(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph.graph);
  engine.set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, choice.engine);
  if (device) engine.set(CUDNN_ATTR_ENGINE_DEVICEPROP, *device);
  engine.finalize("take an engine");
  std::vector<Descriptor> knobs;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const KnobChoice& knob : choice.knobs) {
    const cudnnBackendKnobType_t type = static_cast<cudnnBackendKnobType_t>(knob.type);
    Descriptor& d = knobs.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    d.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
    d.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, knob.value);
    d.finalize("turn a knob");
    raw.push_back(d.get());
  }
  Descriptor config(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  config.set(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
  if (!raw.empty())
    config.set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<int64_t>(raw.size()),
               raw.data());
  config.finalize("configure the engine");
  return config;
}

class Plan : public ConvolutionPlan {
 public:
  Plan(std::shared_ptr<Graph> graph, Descriptor config, cudnnHandle_t handle, const Descriptor* device)
      : graph_(std::move(graph)),
        config_(std::move(config)),
        plan_(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR),
        handle_(handle) {
    if (handle) plan_.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    if (device) plan_.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *device);
    plan_.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config_);
    plan_.finalize("build the plan");
    workspace_ = static_cast<size_t>(plan_.get_int64(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE));
    choice_ = choice_of(config_);
  }

  size_t workspace_bytes() const override { return workspace_; }
  PlanChoice choice() const override { return choice_; }

  void run(void* x, void* w, void* y, void* workspace) const override {
    const std::array<int64_t, 3> uids = {kX, kW, kY};
    const std::array<void*, 3> pointers = {x, w, y};
    Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, uids.data());
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, pointers.data());
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    pack.finalize("name the tensors");
    check(api().execute(handle_, plan_.get(), pack.get()), "run the convolution");
  }

 private:
  std::shared_ptr<Graph> graph_;
  Descriptor config_, plan_;
  cudnnHandle_t handle_;
  size_t workspace_ = 0;
  PlanChoice choice_;
};

// Whether an engine computes in the precision that was asked for, the same result every time, and needs no compilation
// at run time, which takes a second or two for each shape.
bool serves(const Descriptor& config, Precision precision) {
  const Descriptor engine = engine_of(config);
  int64_t count = 0;
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes;
  check(api().get_attribute(engine.get(), CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                            CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes.data()),
        "read the engine's notes");
  for (int64_t i = 0; i < count; ++i) {
    if (notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) return false;
    if (notes[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION) return false;
    if (precision != Precision::f32) continue;
    if (notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE || notes[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS)
      return false;
  }
  std::array<cudnnBackendBehaviorNote_t, CUDNN_BEHAVIOR_NOTE_TYPE_COUNT> behaviours;
  check(api().get_attribute(engine.get(), CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                            CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &count, behaviours.data()),
        "read the engine's notes");
  for (int64_t i = 0; i < count; ++i)
    if (behaviours[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) return false;
  return true;
}

// What cuDNN's heuristics suggest, best first.
std::vector<Descriptor> suggestions(const Graph& graph, cudnnBackendHeurMode_t mode, const Descriptor* device) {
  constexpr int64_t kMost = 64;
  Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph.graph);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  if (device) heuristic.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *device);
  heuristic.finalize("ask for engines");
  std::vector<Descriptor> configs;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int64_t i = 0; i < kMost; ++i) {
    configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    raw.push_back(configs.back().get());
  }
  int64_t count = 0;
  check(api().get_attribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, kMost,
                            &count, raw.data()),
        "read the engines");
  while (static_cast<int64_t>(configs.size()) > count) configs.pop_back();
  return configs;
}

const char* name_of(ConvolutionPass pass) {
  return pass == ConvolutionPass::forward ? "forward" : pass == ConvolutionPass::backward_data ? "data" : "weights";
}

}  // namespace

std::string to_string(const ConvolutionShape& s) {
  const char* precision = s.precision == Precision::f32    ? "fp32"
                          : s.precision == Precision::tf32 ? "tf32"
                          : s.precision == Precision::bf16 ? "bf16"
                                                           : "fp16";
  return concat(precision, ' ', name_of(s.pass), " x [", s.n, ", ", s.c, ", ", s.h, ", ", s.w, "] kernel ", s.kernel_h,
                'x', s.kernel_w, " stride ", s.stride, " padding ", s.padding, " y channels ", s.k);
}

struct Convolutions::State {
  cudnnHandle_t handle = nullptr;
  std::optional<Descriptor> device;
};

Convolutions::Convolutions(cudaStream_t stream) : state_(std::make_unique<State>()) {
  cudnnStatus_t status = api().create(&state_->handle);
  if (status == CUDNN_STATUS_SUCCESS) status = api().set_stream(state_->handle, stream);
  if (status != CUDNN_STATUS_SUCCESS)
    fail(ErrorKind::runtime, "device", "cuDNN ", version(), " cannot be used: ", api().error_string(status),
         "; it must fit the driver and the CUDA version");
}

Convolutions::Convolutions(const std::string& device_json) : state_(std::make_unique<State>()) {
  state_->device.emplace(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  state_->device->set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                      static_cast<int64_t>(device_json.size()), device_json.data());
  state_->device->finalize("describe the device");
}

Convolutions::~Convolutions() {
  if (state_->handle) api().destroy(state_->handle);
}

std::string Convolutions::version() {
  const size_t v = api().version();
  return concat(v / 10000, '.', v / 100 % 100, '.', v % 100);
}

std::vector<std::shared_ptr<ConvolutionPlan>> Convolutions::plans(const ConvolutionShape& shape, size_t most,
                                                                  std::string* why) const {
  std::vector<std::shared_ptr<ConvolutionPlan>> plans;
  const Descriptor* device = state_->device ? &*state_->device : nullptr;
  try {
    std::shared_ptr<Graph> graph = make_graph(shape, state_->handle);
    for (cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
      if (!plans.empty()) break;
      for (Descriptor& config : suggestions(*graph, mode, device)) {
        if (plans.size() >= most) break;
        if (!serves(config, shape.precision)) continue;
        try {
          plans.push_back(std::make_shared<Plan>(graph, std::move(config), state_->handle, device));
        } catch (const Refusal& refusal) {
          *why = refusal.what();
        }
      }
    }
    if (plans.empty() && why->empty()) *why = "cuDNN has no deterministic precompiled engine for it";
  } catch (const Refusal& refusal) {
    *why = refusal.what();
  }
  return plans;
}

std::shared_ptr<ConvolutionPlan> Convolutions::plan(ConvolutionShape shape, const PlanChoice& choice) const {
  const Descriptor* device = state_->device ? &*state_->device : nullptr;
  if (choice.rounded) shape.precision = Precision::tf32;
  try {
    std::shared_ptr<Graph> graph = make_graph(shape, state_->handle);
    Descriptor config = config_of(*graph, choice, device);
    if (!serves(config, shape.precision)) return nullptr;
    return std::make_shared<Plan>(graph, std::move(config), state_->handle, device);
  } catch (const Refusal&) {
    return nullptr;
  }
}

}  // namespace slimclr::cuda
