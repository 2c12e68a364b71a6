import { AdamW, LARS, SGD, learningRate, type Optimizer } from '../optim';
import type { Tensor } from '../tensor';
import type { RunConfig } from './config';

/** The optimizer that a run's settings name. */
export function makeOptimizer(
  parameters: ReadonlyMap<string, Tensor>,
  { optimizer, momentum, weightDecay, weightDecayOf }: RunConfig,
): Optimizer {
  const decayOneDimensional = weightDecayOf === 'all';
  switch (optimizer) {
    case 'sgd':
    case 'nesterov':
      return new SGD(parameters, { momentum, weightDecay, decayOneDimensional, nesterov: optimizer === 'nesterov' });
    case 'lars':
      return new LARS(parameters, { momentum, weightDecay });
    case 'adamw':
      return new AdamW(parameters, { weightDecay, decayOneDimensional });
  }
}

/**
 * Learning rate of a run at a step, counted from 0.
 * @param slim whether the sub-networks have joined: then the schedule is that of `slimLr`
 */
export function learningRateAt(config: RunConfig, step: number, stepsPerEpoch: number, slim: boolean): number {
  const { lrMode, lr, slimLr, epochs, warmupEpochs, milestones } = config;
  const schedule = {
    mode: lrMode,
    lr: slim ? slimLr : lr,
    steps: epochs * stepsPerEpoch,
    warmupSteps: Math.round(warmupEpochs * stepsPerEpoch),
    milestones: milestones.map((epoch) => Math.round(epoch * stepsPerEpoch)),
  };
  return learningRate(schedule, step);
}
