import type { Batch, ImageSource } from '../data';
import { PRECISIONS } from '../nn';
import {
  augment,
  augmentParams,
  keep,
  tensor,
  type Device,
  type DType,
  type AugmentRecipeName,
  type Tensor,
} from '../tensor';
import type { CheckpointConfig } from './checkpoint';

type Recipe = CheckpointConfig['recipe'];

const imagenet = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const;

/** Mean and standard deviation of red, green and blue (0 to 1) that a recipe normalises pictures with. */
export const normalisation = {
  cifar: { mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.201] },
  mocov1: imagenet,
  mocov2: imagenet,
  mocov3: imagenet,
  simclr: imagenet,
  normal: imagenet,
} as const satisfies Record<Recipe, unknown>;

/** The augmentations of both views. MoCo v3's differ: one is always blurred, the other seldom, but may be solarized. */
function augmentations(recipe: Recipe): { query: AugmentRecipeName; key: AugmentRecipeName } {
  return recipe === 'mocov3' ? { query: 'mocov3-view1', key: 'mocov3-view2' } : { query: recipe, key: recipe };
}

// Philox streams of the views, beyond those of the parameters (from 0) and of the queue (2^20).
const viewStreams = { query: 2 ** 20 + 1, key: 2 ** 20 + 2, crops: 2 ** 20 + 4 };

/** What {@link Views} needs of a run's settings. */
export type ViewSettings = Pick<CheckpointConfig, 'recipe' | 'image' | 'seed' | 'precision'> &
  Partial<Pick<CheckpointConfig, 'cropMin' | 'grayP'>>;

/**
 * Turns decoded pictures into the network's input on the device. A source that is in memory is copied to the device
 * once. Call its methods in a scope.
 */
export class Views {
  private readonly resident: Tensor | null;
  private readonly drawn: Tensor;
  private readonly dtype: DType;

  constructor(
    source: ImageSource,
    private readonly settings: ViewSettings,
    private readonly device: Device,
  ) {
    this.resident = 'pixels' in source ? keep(tensor(source.pixels, [source.pixels.length], { device })) : null;
    this.drawn = keep(tensor([0], [1], { dtype: 'int64', device }));
    this.dtype = PRECISIONS[settings.precision];
  }

  /**
   * Two random views of each picture, [N, 3, image, image] each.
   * @param drawn pictures that the run drew before: what is random depends on it and the seed alone
   */
  training(batch: Batch, drawn: number): { query: Tensor; key: Tensor } {
    const pictures = this.place(batch);
    this.drawn.copyFrom([drawn]);
    return { query: this.view(pictures, 'query'), key: this.view(pictures, 'key') };
  }

  /**
   * One random view of each picture, [N, 3, image, image], and the classes [N].
   * @param batch of pictures that have classes
   * @param drawn as of {@link training}
   */
  labelled(batch: Batch, drawn: number): { query: Tensor; labels: Tensor } {
    this.drawn.copyFrom([drawn]);
    const labels = tensor(batch.labels!, [batch.indices.length], { device: this.device });
    return { query: this.view(this.place(batch), 'query'), labels };
  }

  /**
   * The middle of each picture, [N, 3, image, image]: of small pictures all, of larger ones the usual part (224 pixels
   * out of 256).
   */
  evaluation(batch: Batch): Tensor {
    const { image } = this.settings;
    const centreResize = image <= 64 ? image : Math.round((image * 256) / 224);
    const pictures = this.place(batch);
    return this.render(pictures, augmentParams({ centreResize }, pictures.sizes, { seed: 0, offset: this.drawn }));
  }

  /**
   * One random crop of each picture, which shows at least 0.08 of it, flipped or not (recipe `normal`), [N, 3, image,
   * image]: what linear probes are trained on.
   * @param drawn as of {@link training}
   */
  crops(batch: Batch, drawn: number): Tensor {
    this.drawn.copyFrom([drawn]);
    const pictures = this.place(batch);
    const options = { seed: this.settings.seed, stream: viewStreams.crops, offset: this.drawn };
    return this.render(pictures, augmentParams('normal', pictures.sizes, options));
  }

  dispose(): void {
    this.resident?.dispose();
    this.drawn.dispose();
  }

  private place(batch: Batch): { pixels: Tensor; offsets: Tensor; sizes: Tensor } {
    const { device } = this;
    const { pixels, offsets } = this.resident ? batch : ownPixels(batch);
    return {
      pixels: this.resident ?? tensor(pixels, [pixels.length], { device }),
      offsets: tensor(offsets, [offsets.length], { device }),
      sizes: tensor(batch.sizes, [offsets.length, 2], { device }),
    };
  }

  private view(pictures: ReturnType<Views['place']>, which: 'query' | 'key'): Tensor {
    const { recipe, cropMin, grayP, seed } = this.settings;
    const options = { seed, stream: viewStreams[which], offset: this.drawn };
    const changed = { base: augmentations(recipe)[which], cropMin, grayP };
    return this.render(pictures, augmentParams(changed, pictures.sizes, options));
  }

  private render({ pixels, offsets, sizes }: ReturnType<Views['place']>, params: Tensor): Tensor {
    const { recipe, image } = this.settings;
    return augment(pixels, offsets, sizes, params, { size: image, ...normalisation[recipe], dtype: this.dtype });
  }
}

/** What the losses of a batch, or a part of one, are made of: two views, or a view and labels. */
export interface StepInput {
  x: Tensor;
  target: Tensor;
}

/** What a method makes a step of. */
export function stepInput(views: Views, method: CheckpointConfig['method'], batch: Batch, drawn: number): StepInput {
  if (method === 'supervised') {
    const { query, labels } = views.labelled(batch, drawn);
    return { x: query, target: labels };
  }
  const { query, key } = views.training(batch, drawn);
  return { x: query, target: key };
}

/** The pixels of a batch's pictures alone, where it is a part of another: pictures from files lie one after the other. */
function ownPixels({ pixels, offsets, sizes }: Batch): Pick<Batch, 'pixels' | 'offsets'> {
  const [begin, last] = [offsets[0], offsets.length - 1];
  const end = Number(offsets[last]) + 3 * sizes[2 * last] * sizes[2 * last + 1];
  return { pixels: pixels.subarray(Number(begin), end), offsets: offsets.map((at) => at - begin) };
}
