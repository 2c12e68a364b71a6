export { ResidualBlock, type BlockKind } from './blocks';
export { SwitchableBatchNorm } from './batch-norm';
export { networkCosts, type WidthCosts } from './costs';
export { SlimmableConv2d, type Size } from './conv';
export type { SlimmableEncoder } from './encoder';
export { HEADS, makeHead, makePredictor, type Head, type HeadKind } from './heads';
export { encoderPrefix, inferNetwork, type InferredNetwork, type StateShapes } from './infer';
export { Initializer } from './init';
export { SlimmableLinear, SwitchableLinear } from './linear';
export { Module, type Cost, type Slices } from './module';
export {
  ARCHITECTURES,
  PRECISIONS,
  SlimmableResNet,
  type Arch,
  type Precision,
  type ResNetOptions,
  type Stem,
} from './resnet';
export { loadTensors, readState, underPrefix, type HostTensor, type StateSource } from './state-dict';
export { DEFAULT_WIDTHS, checkWidths, fixedChannels, slimChannels } from './widths';
