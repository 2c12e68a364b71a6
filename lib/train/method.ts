import { MoCoV2, MoCoV3, SimCLR, Supervised, type Method } from '../methods';
import type { Device } from '../tensor';
import type { RunConfig } from './config';
import { networkOptions } from './network';

/** The method that a run's settings name, as they set it. */
export function makeMethod(config: RunConfig, device: Device): Method {
  const { dim, mlpDim, temperature, encoderMomentum } = config;
  const common = {
    ...networkOptions(config),
    device,
    distill: config.distill,
    teacherTemperature: config.teacherTemperature,
    studentTemperature: config.studentTemperature,
    aux: config.aux,
    fullDistill: config.fullDistill,
    lossWeighting: config.lossWeights,
  };
  switch (config.method) {
    case 'moco-v2': {
      const { queue: queueSize, symmetric, batchNormSplits } = config;
      const head = config.head as 'mocov2_slim' | 'mocov2_switch';
      return new MoCoV2({ ...common, head, dim, queueSize, temperature, encoderMomentum, symmetric, batchNormSplits });
    }
    case 'moco-v3':
      return new MoCoV3({ ...common, dim, mlpDim, temperature, encoderMomentum });
    case 'simclr':
      return new SimCLR({ ...common, dim, mlpDim, temperature });
    case 'supervised': {
      const head = config.head as 'supervised' | 'supervised_switch';
      return new Supervised({ ...common, head, classes: dim, labelSmoothing: config.labelSmoothing });
    }
  }
}
