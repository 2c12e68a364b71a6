import { adamw, type Tensor } from '../tensor';
import { checkNotNegative, decays, Optimizer, type Trained } from './optimizer';

export interface AdamWOptions {
  /** Decay rates of the averages of the gradient and of its square. Default 0.9 and 0.999. */
  beta1?: number;
  beta2?: number;
  /** Default 1e-8. */
  eps?: number;
  /** Default 0.01, PyTorch's. */
  weightDecay?: number;
  /** Decay biases and BatchNorm's γ and β as well. Default true, as PyTorch. */
  decayOneDimensional?: boolean;
}

/**
 * Adam with decoupled weight decay: p *= 1 - lr·wd; m = β₁·m + (1-β₁)·g; v = β₂·v + (1-β₂)·g²;
 * p -= lr·m/(1-β₁ᵗ) / (√(v/(1-β₂ᵗ)) + ε). As PyTorch's, t counts each parameter's own steps.
 * Loshchilov, Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
 */
export class AdamW extends Optimizer {
  private readonly options: Required<AdamWOptions>;

  constructor(parameters: ReadonlyMap<string, Tensor>, options: AdamWOptions = {}) {
    const { beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 0.01, decayOneDimensional = true } = options;
    checkNotNegative('adamw', { beta1, beta2, eps, weightDecay });
    super('adamw', parameters);
    this.options = { beta1, beta2, eps, weightDecay, decayOneDimensional };
    this.makeState('exp_avg');
    this.makeState('exp_avg_sq');
    this.makeState('step', [1]);
  }

  protected update(trained: readonly Trained[], skip?: Tensor): void {
    const { beta1, beta2, eps, weightDecay, decayOneDimensional } = this.options;
    adamw(
      trained.map((t) => t.parameter),
      trained.map((t) => t.gradient),
      {
        expAvgs: this.stateOf('exp_avg', trained),
        expAvgSqs: this.stateOf('exp_avg_sq', trained),
        steps: this.stateOf('step', trained),
      },
      { lr: this.lr, beta1, beta2, eps, weightDecay: decays(trained, weightDecay, decayOneDimensional), skip },
    );
  }
}
