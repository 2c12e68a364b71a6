import { fill, keep, sgd, tensor, zeros, type Tensor } from '../tensor';

export interface SGDOptions {
  /** Default 0.9. */
  momentum?: number;
  /** Default 1e-4. */
  weightDecay?: number;
  /**
   * Decay biases and BatchNorm's γ and β as well. Default true: the released training reaches every parameter.
   */
  decayOneDimensional?: boolean;
  /** Default false. */
  nesterov?: boolean;
}

/** SGD with momentum: g += wd·p; μ = momentum·μ + g; p -= lr·μ (Nesterov: p -= lr·(g + momentum·μ)). */
export class SGD {
  /** Learning rate [1] on the device; {@link setLearningRate} writes it before a step. */
  readonly lr: Tensor;
  /** Momentum μ of every parameter, by the parameter's name. */
  readonly momentumBuffers: ReadonlyMap<string, Tensor>;
  private readonly momentum: number;
  private readonly nesterov: boolean;
  private readonly entries: { parameter: Tensor; buffer: Tensor; weightDecay: number }[];

  constructor(parameters: ReadonlyMap<string, Tensor>, options: SGDOptions = {}) {
    const { momentum = 0.9, weightDecay = 1e-4, decayOneDimensional = true, nesterov = false } = options;
    for (const [name, value] of Object.entries({ momentum, weightDecay })) {
      if (!(value >= 0 && value < Infinity)) throw new RangeError(`[sgd] expected ${name} >= 0, received ${value}`);
    }
    if (parameters.size === 0) throw new RangeError('[sgd] expected parameters, received none');
    this.momentum = momentum;
    this.nesterov = nesterov;
    this.entries = [...parameters.values()].map((parameter) => ({
      parameter,
      buffer: keep(zeros(parameter.shape, { device: parameter.device })),
      weightDecay: decayOneDimensional || parameter.shape.length > 1 ? weightDecay : 0,
    }));
    this.momentumBuffers = new Map([...parameters.keys()].map((name, i) => [name, this.entries[i].buffer]));
    this.lr = keep(tensor([0], [1], { device: this.entries[0].parameter.device }));
  }

  setLearningRate(lr: number): void {
    this.lr.copyFrom([lr]);
  }

  /**
   * Updates the parameters that have a gradient. Others (BatchNorms of sub-networks that have not run yet) stay as they
   * are, without weight decay.
   */
  step(): void {
    const active = this.withGradient();
    sgd(
      active.map((e) => e.parameter),
      active.map((e) => e.gradient),
      active.map((e) => e.buffer),
      { lr: this.lr, momentum: this.momentum, nesterov: this.nesterov, weightDecay: active.map((e) => e.weightDecay) },
    );
  }

  /** Sets all gradients to zero, before the backward pass of the next step. */
  zeroGrad(): void {
    fill(
      this.withGradient().map((e) => e.gradient),
      0,
    );
  }

  dispose(): void {
    this.lr.dispose();
    for (const { buffer } of this.entries) buffer.dispose();
  }

  private withGradient() {
    return this.entries.flatMap((e) => (e.parameter.grad ? [{ ...e, gradient: e.parameter.grad }] : []));
  }
}
