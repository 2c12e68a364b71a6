/**
 * Generated pictures of shapes, labelled: a data set for a first run, where nothing has to be downloaded.
 *
 * The class is the shape. Colours, place, scale, rotation and the textures of shape and background are drawn without regard
 * to it, so that an accuracy above chance shows that the shape itself was learnt.
 */
import { checkWhole } from './check-whole';
import type { ImageStore } from './image-store';
import { Philox, RandomStream } from './philox';
import { OUTLINES, type Outline } from './shape-outlines';
import { Surface } from './shape-surface';

/** Radians either way. */
const MAX_ROTATION = 0.1 * Math.PI;

/** The classes, in the order of their labels. */
export const SHAPE_CLASSES: readonly string[] = Object.keys(OUTLINES);

export interface ShapesOptions {
  /** Number of pictures. */
  readonly count: number;
  /** Height and width in pixels. Default 32. */
  readonly size?: number;
  /** Whole number from 0 up. Default 0. */
  readonly seed?: number;
  /** Names out of {@link SHAPE_CLASSES}; labels are places in this list. Default: all of them. */
  readonly classes?: readonly string[];
  /** Index of the first picture: a test set goes on where the training set ended. Default 0. */
  readonly first?: number;
}

/**
 * Draws pictures `first` to `first + count - 1` of a seed. Picture i is of class i modulo the number of classes, and always
 * the same.
 */
export function generateShapes(options: ShapesOptions): ImageStore {
  const { count, size = 32, seed = 0, classes = SHAPE_CLASSES, first = 0 } = options;
  checkWhole('count', count, 1, 'shapes');
  checkWhole('size', size, 8, 'shapes');
  checkWhole('first', first, 0, 'shapes');
  const outlines = classes.map(outlineOf);
  if (outlines.length < 2) throw new RangeError(`[shapes] expected two classes or more, received ${outlines.length}`);
  const bytes = size * size * 3;
  const pixels = new Uint8Array(count * bytes);
  const labels = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    labels[i] = (first + i) % classes.length;
    const random = new Philox(seed, RandomStream.shapes, first + i);
    drawShape(outlines[labels[i]], random, size, pixels.subarray(i * bytes, (i + 1) * bytes));
  }
  return {
    pixels,
    offsets: BigInt64Array.from({ length: count }, (_, i) => BigInt(i * bytes)),
    sizes: new Int32Array(count * 2).fill(size),
    labels,
    classes: [...classes],
  };
}

function outlineOf(name: string): Outline {
  if (!Object.hasOwn(OUTLINES, name)) {
    throw new RangeError(
      `[shapes] expected classes out of ${SHAPE_CLASSES.join(', ')}, received ${JSON.stringify(name)}`,
    );
  }
  return OUTLINES[name];
}

function drawShape(outline: Outline, random: Philox, size: number, out: Uint8Array): void {
  const radius = (size / 2) * random.uniform(0.6, 0.92);
  const centreX = size / 2 + random.uniform(-1, 1) * (size / 2 - radius);
  const centreY = size / 2 + random.uniform(-1, 1) * (size / 2 - radius);
  const angle = random.uniform(-1, 1) * MAX_ROTATION;
  const cos = Math.cos(angle) / radius;
  const sin = Math.sin(angle) / radius;

  // One is dark, the other light, by enough to tell them apart under any colour jitter.
  const dark = random.uniform(0.1, 0.35);
  const light = random.uniform(0.65, 0.9);
  const shapeIsDark = random.below(2) === 0;
  const background = new Surface(random, shapeIsDark ? light : dark);
  const shape = new Surface(random, shapeIsDark ? dark : light);

  for (let y = 0, at = 0; y < size; y++) {
    const v = (y + 0.5) / size;
    const dy = y + 0.5 - centreY;
    for (let x = 0; x < size; x++, at += 3) {
      const u = (x + 0.5) / size;
      const dx = x + 0.5 - centreX;
      const distance = outline(dx * cos + dy * sin, dy * cos - dx * sin) * radius;
      // The distance in pixels says how much of the pixel is covered, which smooths the edge.
      const covered = Math.min(1, Math.max(0, 0.5 - distance));
      const below = covered < 1 ? background.shade(u, v) : 0;
      const above = covered > 0 ? shape.shade(u, v) : 0;
      for (let c = 0; c < 3; c++) {
        const value = covered * (shape.colour[c] + above) + (1 - covered) * (background.colour[c] + below);
        out[at + c] = Math.min(255, Math.max(0, Math.round(value * 255)));
      }
    }
  }
}
