export { AdamW, type AdamWOptions } from './adamw';
export { LARS, type LARSOptions } from './lars';
export { LossScaler, type LossScalerOptions } from './loss-scaler';
export { Optimizer } from './optimizer';
export { SGD, type SGDOptions } from './sgd';
export {
  LEARNING_RATE_MODES,
  cosineMomentum,
  learningRate,
  type LearningRateMode,
  type LearningRateSchedule,
} from './schedules';
