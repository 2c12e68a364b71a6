export { LOSS_WEIGHTINGS, lossWeights, type LossWeighting } from './loss-weights';
export { MoCoV2, type MoCoV2Options, type StepLoss, type StepOptions } from './moco-v2';
