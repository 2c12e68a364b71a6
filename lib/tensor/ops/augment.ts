import { native } from '../../native';
import type { DType, NativeRecipe } from '../../native-addon';
import { Tensor } from '../tensor';

/** Published recipes; MoCo v3's two views differ. */
export type AugmentRecipeName =
  'mocov1' | 'mocov2' | 'mocov3-view1' | 'mocov3-view2' | 'simclr' | 'cifar' | 'normal' | 'val';

/** What an augmentation draws at random (native/core/augment_params.h gives ranges and the columns of the result). */
export interface AugmentRecipe {
  /** The published recipe that the rest changes; default: a crop and a flip. */
  base?: AugmentRecipeName;
  /** Share of the area that a crop takes, [cropMin, cropMax]; defaults 0.2 and 1. */
  cropMin?: number;
  cropMax?: number;
  /** Strengths of the colour jitter, hue at most 0.5; defaults 0. */
  brightness?: number;
  contrast?: number;
  saturation?: number;
  hue?: number;
  /** Probabilities; default 0, flipP 0.5. */
  jitterP?: number;
  grayP?: number;
  blurP?: number;
  solarizeP?: number;
  flipP?: number;
  /** Grey before the jitter, as in MoCo v1; default false. */
  grayFirst?: boolean;
  /** Range of the blur's σ in pixels; defaults 0.1 and 2. */
  sigmaMin?: number;
  sigmaMax?: number;
  /** Values from here on (0 to 256) are inverted; default 128. */
  solarizeThreshold?: number;
  /** Draws nothing: resizes the shorter side to this and takes the centre. */
  centreResize?: number;
}

export interface AugmentParamsOptions {
  seed: number;
  /** One per view; default 0. */
  stream?: number;
  /** Counter of the first image, int64 of one element: image i draws from offset + i, whatever the batch. */
  offset: Tensor;
}

/**
 * Draws augmentation parameters.
 *
 * @param recipe a published recipe's name, or what to draw
 * @param sizes height and width of each image, [N, 2] int32
 * @returns [N, 20] float32
 */
export function augmentParams(
  recipe: AugmentRecipeName | AugmentRecipe,
  sizes: Tensor,
  options: AugmentParamsOptions,
): Tensor {
  const { seed, stream = 0, offset } = options;
  return new Tensor(native.augmentParams(recipe as NativeRecipe, sizes.handle, seed, stream, offset.handle));
}

export interface AugmentOptions {
  /** Side of the output, pixels; or [height, width]. */
  size: number | readonly [number, number];
  /** Per channel, in units of the value range 0…1. */
  mean: readonly number[];
  std: readonly number[];
  /** 'float32' (default), 'bfloat16' or, on CUDA, 'float16'. */
  dtype?: DType;
}

const sides = (size: number | readonly [number, number]): readonly [number, number] =>
  typeof size === 'number' ? [size, size] : size;

/**
 * Applies augmentation parameters: crop and resize (antialiased) → jitter → grey → blur → solarize → flip → normalise.
 *
 * @param pixels RGB images, interleaved, one after the other, uint8 [bytes]
 * @param offsets where each image begins, int64 [N]
 * @param sizes its height and width, int32 [N, 2]
 * @param params [N, 20] from `augmentParams()`
 * @returns [N, 3, size, size]
 */
export function augment(
  pixels: Tensor,
  offsets: Tensor,
  sizes: Tensor,
  params: Tensor,
  options: AugmentOptions,
): Tensor {
  const { mean, std, dtype = 'float32' } = options;
  const [height, width] = sides(options.size);
  return new Tensor(
    native.augment(pixels.handle, offsets.handle, sizes.handle, params.handle, height, width, mean, std, dtype),
  );
}

/** As `augment()`, without normalisation: uint8 [N, size, size, 3], to be looked at. */
export function augmentRaw(
  pixels: Tensor,
  offsets: Tensor,
  sizes: Tensor,
  params: Tensor,
  options: Pick<AugmentOptions, 'size'>,
): Tensor {
  const [height, width] = sides(options.size);
  return new Tensor(native.augmentRaw(pixels.handle, offsets.handle, sizes.handle, params.handle, height, width));
}
