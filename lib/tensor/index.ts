export { Tensor, type Device, type DType, type TensorData } from './tensor';
export { tensor, zeros, full, randn, type TensorOptions, type RandnOptions } from './create';
export { scope, keep } from './scope';
export { backward, noGrad } from './tape';
export { record, type Recording } from './recording';
export {
  cudaStatus,
  deviceInfo,
  getDefaultDevice,
  getNumThreads,
  memoryStats,
  setDefaultDevice,
  setNumThreads,
  synchronize,
  trimMemory,
  unsupported,
  type MemoryStats,
} from './device';
export { conv2d, packWeights, type Conv2dOptions, type Conv2dSlice } from './ops/conv2d';
export { batchNorm, type BatchNormOptions, type BatchNormParameters } from './ops/batch-norm';
export { globalAvgPool2d, maxPool2d, type PoolOptions } from './ops/pooling';
export { linear, type LinearOptions } from './ops/linear';
export { add, cast, fill, relu, scale } from './ops/elementwise';
export { concat, indexSelect, reshape } from './ops/rows';
export { innerProducts } from './ops/inner-products';
export { mean, sum } from './ops/reductions';
export { l2Normalize } from './ops/l2-normalize';
export { softmax, softmaxCrossEntropy } from './ops/softmax';
export { distill, type DistillOptions } from './ops/distill';
export { slimInfoNCE, type SlimInfoNCEOptions } from './ops/slim-info-nce';
export {
  adamw,
  clipGradNorm,
  ema,
  enqueue,
  lars,
  rescale,
  sgd,
  unscale,
  updateScale,
  type AdamwOptions,
  type AdamwState,
  type LarsOptions,
  type ScaleRule,
  type SgdOptions,
} from './ops/update';
export {
  augment,
  augmentParams,
  augmentRaw,
  type AugmentOptions,
  type AugmentParamsOptions,
  type AugmentRecipe,
  type AugmentRecipeName,
} from './ops/augment';
export { knn, type KnnOptions } from './ops/knn';
