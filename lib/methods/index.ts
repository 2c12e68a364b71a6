export { LOSS_WEIGHTINGS, lossWeights, type LossWeighting } from './loss-weights';
export type { Method, StepLoss, StepOptions } from './method';
export { MoCoV2, type MoCoV2Options } from './moco-v2';
export { MoCoV3, type MoCoV3Options } from './moco-v3';
export { SimCLR, type SimCLROptions } from './simclr';
export { DISTILLATIONS, type Distillation, type SlimmableLossOptions } from './slimmable-loss';
export { Supervised, type SupervisedOptions } from './supervised';
