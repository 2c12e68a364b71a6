import type { Batch, ImageSource } from '../data';
import { augment, augmentParams, keep, tensor, type Device, type DType, type Tensor } from '../tensor';
import type { CheckpointConfig } from './checkpoint';

/** Mean and standard deviation of red, green and blue (0 to 1) that a recipe normalises pictures with. */
export const normalisation = {
  cifar: { mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.201] },
  mocov2: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
} as const;

// Philox streams of the two views, beyond those of the parameters (from 0) and of the queue (2^20).
const viewStreams = { query: 2 ** 20 + 1, key: 2 ** 20 + 2 };

/** What {@link Views} needs of a run's settings. */
export type ViewSettings = Pick<CheckpointConfig, 'recipe' | 'image' | 'seed' | 'precision'>;

/**
 * Turns decoded pictures into the network's input on the device. A source that is in memory is copied to the device
 * once. Call `training` and `evaluation` in a scope.
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
    this.dtype = settings.precision === 'bf16' ? 'bfloat16' : 'float32';
  }

  /**
   * Two random views of each picture, [N, 3, image, image] each.
   * @param drawn pictures that the run drew before: what is random depends on it and the seed alone
   */
  training(batch: Batch, drawn: number): { query: Tensor; key: Tensor } {
    const { recipe, seed } = this.settings;
    const pictures = this.place(batch);
    this.drawn.copyFrom([drawn]);
    const view = (stream: number) =>
      this.render(pictures, augmentParams(recipe, pictures.sizes, { seed, stream, offset: this.drawn }));
    return { query: view(viewStreams.query), key: view(viewStreams.key) };
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

  dispose(): void {
    this.resident?.dispose();
    this.drawn.dispose();
  }

  private place({ pixels, offsets, sizes }: Batch): { pixels: Tensor; offsets: Tensor; sizes: Tensor } {
    const { device } = this;
    return {
      pixels: this.resident ?? tensor(pixels, [pixels.length], { device }),
      offsets: tensor(offsets, [offsets.length], { device }),
      sizes: tensor(sizes, [offsets.length, 2], { device }),
    };
  }

  private render({ pixels, offsets, sizes }: ReturnType<Views['place']>, params: Tensor): Tensor {
    const { recipe, image } = this.settings;
    return augment(pixels, offsets, sizes, params, { size: image, ...normalisation[recipe], dtype: this.dtype });
  }
}
