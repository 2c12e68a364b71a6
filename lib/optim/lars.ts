import { lars, type Tensor } from '../tensor';
import { checkNotNegative, Optimizer, type Trained } from './optimizer';

export interface LARSOptions {
  /** Default 0.9. */
  momentum?: number;
  /** Default 1e-6. */
  weightDecay?: number;
  /** How long a step is beside the parameter, at learning rate 1. Default 0.001. */
  trustCoefficient?: number;
}

/**
 * Layer-wise adaptive rates, as MoCo v3 and SimCLR train with large batches: g += wd·p; g *= trust·‖p‖/‖g‖ (1 where
 * either is 0); μ = momentum·μ + g; p -= lr·μ. Biases and BatchNorm's γ and β are neither decayed nor scaled.
 * You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", 2017.
 */
export class LARS extends Optimizer {
  private readonly options: Required<LARSOptions>;

  constructor(parameters: ReadonlyMap<string, Tensor>, options: LARSOptions = {}) {
    const { momentum = 0.9, weightDecay = 1e-6, trustCoefficient = 0.001 } = options;
    checkNotNegative('lars', { momentum, weightDecay, trustCoefficient });
    super('lars', parameters);
    this.options = { momentum, weightDecay, trustCoefficient };
    this.makeState('momentum');
  }

  protected update(trained: readonly Trained[], skip?: Tensor): void {
    lars(
      trained.map((t) => t.parameter),
      trained.map((t) => t.gradient),
      this.stateOf('momentum', trained),
      { lr: this.lr, ...this.options, skip },
    );
  }
}
