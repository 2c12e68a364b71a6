import type { Philox } from './philox';

const CELLS = 8;

/** A random colour of a given lightness with one of four textures: gradient, stripes, blotches, grain. */
export class Surface {
  /** RGB, about 0 to 1. */
  readonly colour: readonly number[];
  private readonly kind: number;
  private readonly strength: number;
  private readonly stepX: number;
  private readonly stepY: number;
  private readonly phase: number;
  private readonly lattice = new Float64Array(CELLS * CELLS);

  constructor(random: Philox, lightness: number) {
    const hue = random.uniform(0, 2 * Math.PI);
    const chroma = random.uniform(0, 0.25);
    this.colour = [0, 1, 2].map((c) => lightness + chroma * Math.cos(hue - (c * 2 * Math.PI) / 3));
    this.kind = random.below(4);
    this.strength = random.uniform(0.01, 0.036);
    this.phase = random.uniform(0, 2 * Math.PI);
    const direction = random.uniform(0, 2 * Math.PI);
    // What the texture does across the picture: a ramp, waves (radians), cells of noise: a few blotches, many grains.
    const across = [2, random.uniform(3, 7) * 2 * Math.PI, random.uniform(3, 6), random.uniform(16, 24)][this.kind];
    this.stepX = Math.cos(direction) * across;
    this.stepY = Math.sin(direction) * across;
    if (this.kind >= 2) for (let i = 0; i < this.lattice.length; i++) this.lattice[i] = random.uniform(-1, 1);
  }

  /** What the texture adds to the colour at a place of the picture (0 to 1 each). */
  shade(u: number, v: number): number {
    const across = u * this.stepX + v * this.stepY;
    if (this.kind === 0) return this.strength * (across - (this.stepX + this.stepY) / 2);
    if (this.kind === 1) return this.strength * Math.sin(across + this.phase);
    return this.strength * this.noise(across + 64, v * this.stepX - u * this.stepY + 64);
  }

  /** Smooth noise: a tiled lattice of random values, blended between its points. */
  private noise(x: number, y: number): number {
    const x0 = Math.floor(x);
    const y0 = Math.floor(y);
    const fx = x - x0;
    const fy = y - y0;
    const left = x0 & (CELLS - 1);
    const right = (x0 + 1) & (CELLS - 1);
    const upper = (y0 & (CELLS - 1)) * CELLS;
    const lower = ((y0 + 1) & (CELLS - 1)) * CELLS;
    const top = this.lattice[upper + left] * (1 - fx) + this.lattice[upper + right] * fx;
    const bottom = this.lattice[lower + left] * (1 - fx) + this.lattice[lower + right] * fx;
    return top * (1 - fy) + bottom * fy;
  }
}
