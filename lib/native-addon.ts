/** The native addon's exports (native/addon), as TypeScript sees them. Every function throws TypeError, RangeError or Error. */

export type DType = 'float32' | 'bfloat16' | 'float16' | 'int32' | 'int64' | 'uint8';
export type TensorData = Float32Array | Int32Array | BigInt64Array | Uint8Array;

/** A share in a native tensor. */
export interface NativeTensor {
  readonly shape: number[];
  readonly dtype: DType;
  readonly device: string;
  readonly disposed: boolean;
  dispose(): void;
}

/** What a device runs again and again; without properties of its own. */
export interface NativeRecording {
  readonly recording: unique symbol;
}

export interface MemoryStats {
  /** Live native buffers. */
  tensors: number;
  /** Bytes in live buffers. */
  bytes: number;
  /** Bytes kept for reuse. */
  cachedBytes: number;
  /** Bytes that recordings keep for their replays, beside those in live buffers. */
  recordedBytes: number;
  /** Highest `bytes` since the start or the last `trimMemory()`. */
  peakBytes: number;
}

type T = NativeTensor;
type Optional = NativeTensor | null;
type Shape = readonly number[];

/** What an augmentation draws; see `AugmentRecipe` in lib/tensor/ops/augment.ts. */
export type NativeRecipe = string | Readonly<Record<string, number | boolean>>;

export interface NativeAddon {
  fromData(data: TensorData, shape: Shape, dtype: DType, device: string): T;
  copyFrom(destination: T, source: T | TensorData): void;
  read(tensor: T): Promise<TensorData>;
  readSync(tensor: T): TensorData;
  synchronize(device: string): Promise<void>;
  zeros(shape: Shape, dtype: DType, device: string): T;
  randn(shape: Shape, seed: number, stream: number, offset: number, mean: number, std: number, device: string): T;
  alias(tensor: T): T;
  memoryStats(device: string): MemoryStats;
  trimMemory(device: string): void;
  deviceInfo(device: string): Record<string, string>;
  unsupported(device: string, dtype: DType): string | null;
  setNumThreads(device: string, threads: number): void;
  numThreads(device: string): number;
  cudaStatus(): string;
  record(device: string, work: () => void): NativeRecording;
  replay(recording: NativeRecording): void;
  disposeRecording(recording: NativeRecording): void;

  conv2d(x: T, weight: T, outChannels: number, inChannels: number, stride: number, padding: number): T;
  packWeights(weights: readonly T[], outChannels: readonly number[], inChannels: readonly number[], dtype: DType): void;
  conv2dBackwardData(dy: T, weight: T, xShape: Shape, stride: number, padding: number): T;
  conv2dBackwardWeight(x: T, dy: T, dweight: T, stride: number, padding: number): void;
  batchNorm(
    x: T,
    weight: Optional,
    bias: Optional,
    runningMean: T,
    runningVar: T,
    residual: Optional,
    training: boolean,
    relu: boolean,
    residualLast: boolean,
    momentum: number,
    eps: number,
  ): [y: T, mean: T, rstd: T];
  batchNormBackward(
    x: T,
    y: Optional,
    dy: T,
    dy2: Optional,
    weight: Optional,
    bias: Optional,
    mean: T,
    rstd: T,
    dweight: Optional,
    dbias: Optional,
    residual: boolean,
    training: boolean,
    relu: boolean,
    residualLast: boolean,
    momentum: number,
    eps: number,
  ): [dx: T, dresidual: Optional];
  maxPool2d(x: T, kernelSize: number, stride: number, padding: number): [y: T, index: T];
  maxPool2dBackward(dy: T, index: T, xShape: Shape, kernelSize: number, stride: number, padding: number): T;
  globalAvgPool2d(x: T): T;
  globalAvgPool2dBackward(dy: T, xShape: Shape, dtype: DType): T;
  linear(x: T, weight: T, bias: Optional, outFeatures: number, inFeatures: number): T;
  linearBackwardData(dy: T, weight: T, inFeatures: number): T;
  linearBackwardWeight(x: T, dy: T, dweight: T, dbias: Optional): void;

  reshape(x: T, shape: Shape): T;
  indexSelect(inputs: readonly T[], index: Optional): T;
  indexSelectBackward(dy: T, index: Optional, first: number, shape: Shape): T;
  relu(x: T): T;
  reluBackward(y: T, dy: T): T;
  add(a: T, b: T): T;
  accumulate(x: T, y: T): void;
  scale(x: T, factor: number, scalar: Optional): T;
  sum(x: T, factor: number): T;
  broadcast(scalar: T, factor: number, shape: Shape): T;
  cast(x: T, dtype: DType): T;
  clone(x: T): T;
  fill(tensors: readonly T[], value: number): void;
  l2Normalize(x: T, eps: number): [y: T, norm: T];
  l2NormalizeBackward(y: T, norm: T, dy: T, eps: number): T;
  softmax(x: T): T;
  softmaxCrossEntropy(logits: T, target: T, labelSmoothing: number): [loss: T, probabilities: T];
  softmaxCrossEntropyBackward(probabilities: T, target: T, dloss: T, labelSmoothing: number): T;

  slimInfoNCE(
    queries: readonly T[],
    key: T,
    queue: T,
    weights: T,
    wantGradients: boolean,
    temperature: number,
    teacherTemperature: number,
    studentTemperature: number,
    aux: number,
    similarity: boolean,
    fullDistill: boolean,
  ): [loss: T, perWidth: T, gradients: T[]];
  distill(
    kind: string,
    student: T,
    teacher: T,
    positives: Optional,
    wantGradient: boolean,
    teacherTemperature: number,
    studentTemperature: number,
  ): [loss: T, gradient: Optional];
  sgd(
    params: readonly T[],
    grads: readonly T[],
    momentumBuffers: readonly T[],
    lr: T,
    momentum: number,
    nesterov: boolean,
    weightDecay: readonly number[],
    skip: Optional,
  ): void;
  lars(
    params: readonly T[],
    grads: readonly T[],
    momentumBuffers: readonly T[],
    lr: T,
    momentum: number,
    weightDecay: number,
    trustCoefficient: number,
    skip: Optional,
  ): void;
  adamw(
    params: readonly T[],
    grads: readonly T[],
    expAvgs: readonly T[],
    expAvgSqs: readonly T[],
    steps: readonly T[],
    lr: T,
    beta1: number,
    beta2: number,
    eps: number,
    weightDecay: readonly number[],
    skip: Optional,
  ): void;
  rescale(tensors: readonly T[], factor: number): void;
  clipGradNorm(grads: readonly T[], maxNorm: number): T;
  unscale(grads: readonly T[], scale: T): T;
  updateScale(scale: T, goodSteps: T, found: T, growth: number, backoff: number, interval: number): void;
  ema(targets: readonly T[], sources: readonly T[], m: T): void;
  enqueue(queue: T, keys: T, pointer: T): void;
  augmentParams(recipe: NativeRecipe, sizes: T, seed: number, stream: number, offset: T): T;
  augment(
    pixels: T,
    offsets: T,
    sizes: T,
    params: T,
    height: number,
    width: number,
    mean: readonly number[],
    std: readonly number[],
    dtype: DType,
  ): T;
  augmentRaw(pixels: T, offsets: T, sizes: T, params: T, height: number, width: number): T;
  knn(query: T, bank: T, labels: T, k: number, temperature: number, classes: number): T;
}
