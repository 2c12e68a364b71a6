import {
  backward,
  ema,
  innerProducts,
  keep,
  l2Normalize,
  noGrad,
  scale,
  scope,
  softmaxCrossEntropy,
  tensor,
  type Tensor,
} from '../tensor';
import {
  DEFAULT_WIDTHS,
  Initializer,
  SlimmableResNet,
  loadTensors,
  makePredictor,
  readState,
  underPrefix,
  type Head,
  type HostTensor,
  type ResNetOptions,
  type Slices,
  type StateSource,
} from '../nn';
import { cosineMomentum } from '../optim';
import type { Method, StepLoss, StepOptions } from './method';
import { SlimmableLoss, check, checkPositive, ofWidths, sumLosses, type SlimmableLossOptions } from './slimmable-loss';
import { PerBatchSize, rehearse } from './tensors';

export interface MoCoV3Options extends Omit<ResNetOptions, 'head' | 'outDim'>, SlimmableLossOptions {
  /** Embedding dimension. Default 256. */
  dim?: number;
  /** Hidden channels of projector and predictor. Default 4096. */
  mlpDim?: number;
  /** T of the loss. Default 1. */
  temperature?: number;
  /** Momentum m₀ of the key encoder at the start; it rises to 1 as a cosine. Default 0.99. */
  encoderMomentum?: number;
}

// Beyond the streams of the encoder's parameters.
const PREDICTOR_STREAM = 2 ** 19;

/**
 * SlimCLR on MoCo v3: a slimmable encoder with projector, a predictor on the queries, and the encoder's momentum average,
 * whose keys of the same batch are positives and negatives. The loss is symmetric in the two views:
 * ctr(q₁, k₂) + ctr(q₂, k₁), ctr = 2T·CE(q·kᵀ/T). Distillation is on the similarities q·kᵀ/T (default temperatures 1).
 * Chen et al., "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021.
 */
export class MoCoV3 implements Method {
  readonly widths: readonly number[];
  readonly baseEncoder: SlimmableResNet;
  readonly momentumEncoder: SlimmableResNet;
  readonly recordable = true;
  readonly predictor: Head;
  /** Momentum m of the key encoder, float32 [1]. */
  readonly encoderMomentum: Tensor;
  private readonly firstMomentum: number;
  private readonly temperature: number;
  private readonly loss: SlimmableLoss;
  private readonly indices: PerBatchSize<{ positives: Tensor }>;

  constructor(options: MoCoV3Options) {
    const {
      widths = DEFAULT_WIDTHS,
      dim = 256,
      mlpDim = 4096,
      temperature = 1,
      encoderMomentum = 0.99,
      ...backbone
    } = options;
    const { seed = 0, device } = backbone;
    checkPositive('moco-v3', { temperature });
    const inRange = encoderMomentum >= 0 && encoderMomentum < 1;
    check('moco-v3', 'encoderMomentum in [0, 1)', inRange, encoderMomentum);
    this.loss = new SlimmableLoss('moco-v3', widths, 1, options);
    this.temperature = temperature;
    this.firstMomentum = encoderMomentum;

    // Of one seed, so the momentum encoder starts with the encoder's weights.
    const network = { ...backbone, widths, head: 'mocov3_slim', outDim: dim, mlpDim } as const;
    this.widths = widths;
    this.baseEncoder = new SlimmableResNet(network);
    this.momentumEncoder = new SlimmableResNet(network).freeze();
    this.predictor = makePredictor(new Initializer(seed, device, PREDICTOR_STREAM), widths, dim, mlpDim);
    this.encoderMomentum = keep(tensor([encoderMomentum], [1], { device }));
    this.indices = new PerBatchSize((n) => ({
      positives: tensor([...Array(n).keys()], [n], { dtype: 'int32', device }),
    }));
  }

  get encoder(): SlimmableResNet {
    return this.baseEncoder;
  }

  /** The key encoder's momentum follows it. */
  setProgress(share: number): void {
    this.encoderMomentum.copyFrom([cosineMomentum(this.firstMomentum, share)]);
  }

  /**
   * @param x1 a view [N, 3, H, W]
   * @param x2 the other view of the same pictures
   */
  step(x1: Tensor, x2: Tensor, { slim, first = true, only, lossScale }: StepOptions): StepLoss {
    return scope(() => {
      const widths = slim ? this.widths : this.widths.slice(0, 1);
      this.baseEncoder.packWeights(widths.length);
      const query = (x: Tensor, i: number) => l2Normalize(this.predictor.forward(this.baseEncoder.forward(x, i), i));
      const queries = ofWidths(widths, only, (i) => [query(x1, i), query(x2, i)]);

      const source = [...this.baseEncoder.parameters().values()];
      if (first) ema([...this.momentumEncoder.parameters().values()], source, this.encoderMomentum);
      this.momentumEncoder.packWeights(1);
      const [k1, k2] = noGrad(() => [x1, x2].map((x) => l2Normalize(this.momentumEncoder.forward(x, 0))));

      const losses = sumLosses(
        this.contrast(
          queries.map(([q1]) => q1),
          k2,
        ),
        this.contrast(
          queries.map(([, q2]) => q2),
          k1,
        ),
      );
      backward(losses.loss, lossScale);
      return losses;
    });
  }

  /**
   * The loss of all widths in one direction.
   * @param queries unit rows [N, dim] of each width
   * @param key unit rows [N, dim]: the positive of query n is key n
   */
  contrast(queries: readonly Tensor[], key: Tensor): StepLoss {
    const { temperature } = this;
    const { positives } = this.indices.get(key.shape[0]);
    const outputs = queries.map((q) => {
      const logits = scale(innerProducts(q, key), 1 / temperature);
      const loss = scale(softmaxCrossEntropy(logits, positives), 2 * temperature);
      return { loss, embeddings: q, logits: () => logits, positives };
    });
    return this.loss.combine(outputs);
  }

  parameters(): Map<string, Tensor> {
    return new Map([
      ...underPrefix('base_encoder.', this.baseEncoder.parameters()),
      ...underPrefix('predictor.', this.predictor.parameters()),
    ]);
  }

  slices(): Map<string, Slices> {
    return new Map([
      ...underPrefix('base_encoder.', this.baseEncoder.slices()),
      ...underPrefix('predictor.', this.predictor.slices()),
    ]);
  }

  rehearse<T>(work: () => T): T {
    return rehearse(this.tensors(), work);
  }

  /** `base_encoder.*`, `momentum_encoder.*` and `predictor.*`. */
  state(): Promise<Map<string, HostTensor>> {
    return readState(this.tensors());
  }

  loadState(source: StateSource): void {
    loadTensors(`MoCo v3 on ${this.baseEncoder.arch}`, this.tensors(), source);
  }

  dispose(): void {
    const { baseEncoder, momentumEncoder, predictor, encoderMomentum, indices } = this;
    for (const part of [baseEncoder, momentumEncoder, predictor, encoderMomentum, indices]) part.dispose();
  }

  private tensors(): Map<string, Tensor> {
    return new Map([
      ...underPrefix('base_encoder.', this.baseEncoder.stateDict()),
      ...underPrefix('momentum_encoder.', this.momentumEncoder.stateDict()),
      ...underPrefix('predictor.', this.predictor.stateDict()),
    ]);
  }
}
