export { SGD, type SGDOptions } from './sgd';
export {
  LEARNING_RATE_MODES,
  cosineMomentum,
  learningRate,
  type LearningRateMode,
  type LearningRateSchedule,
} from './schedules';
