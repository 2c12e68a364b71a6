import { expect } from 'chai';
import { generateShapes, SHAPE_CLASSES, type ImageStore } from '../../lib/data';

describe('generateShapes', () => {
  it('gives balanced labels and a picture for each', () => {
    const shapes = generateShapes({ count: 120, size: 20, seed: 1 });
    expect(SHAPE_CLASSES.length).to.be.greaterThanOrEqual(10);
    expect(shapes.classes).to.deep.equal(SHAPE_CLASSES);
    for (let label = 0; label < SHAPE_CLASSES.length; label++) {
      expect(shapes.labels!.filter((l) => l === label)).to.have.length(120 / SHAPE_CLASSES.length);
    }
    expect(shapes.pixels.length).to.equal(120 * 20 * 20 * 3);
    expect(shapes.offsets[119]).to.equal(BigInt(119 * 1200));
    expect([...shapes.sizes].every((side) => side === 20)).to.equal(true);
    for (let i = 0; i < 120; i++) {
      const picture = shapes.pixels.subarray(i * 1200, (i + 1) * 1200);
      expect(Math.max(...picture) - Math.min(...picture), `picture ${i} shows a shape`).to.be.greaterThan(80);
    }
  });

  it('draws picture i of a seed the same wherever it begins, and others for other seeds', () => {
    const all = generateShapes({ count: 40, seed: 9 });
    const tail = generateShapes({ count: 10, seed: 9, first: 30 });
    expect(tail.pixels).to.deep.equal(all.pixels.slice(30 * 3072));
    expect(tail.labels).to.deep.equal(all.labels!.slice(30));
    expect(generateShapes({ count: 10, seed: 10 }).pixels).to.not.deep.equal(all.pixels.slice(0, 10 * 3072));
  });

  it('shows nothing of the class in colour, place and background', () => {
    const shapes = generateShapes({ count: 6000, size: 16 });
    const features = Array.from({ length: 6000 }, (_, i) => cues(shapes, i));
    // A nearest-centre classifier on those cues, learnt on one half and tried on the other, stays at chance.
    const classes = shapes.classes.length;
    const centres = Array.from({ length: classes }, (_, label) => {
      const own = features.filter((_, i) => i < 3000 && shapes.labels![i] === label);
      return own[0].map((_, d) => own.reduce((sum, f) => sum + f[d], 0) / own.length);
    });
    let hits = 0;
    for (let i = 3000; i < 6000; i++) {
      const distances = centres.map((centre) => centre.reduce((sum, c, d) => sum + (c - features[i][d]) ** 2, 0));
      if (distances.indexOf(Math.min(...distances)) === shapes.labels![i]) hits++;
    }
    expect(hits / 3000).to.be.lessThan(1.5 / classes);
  });

  it('takes some of the classes only', () => {
    const shapes = generateShapes({ count: 6, classes: ['star', 'ring'] });
    expect(shapes.classes).to.deep.equal(['star', 'ring']);
    expect([...shapes.labels!]).to.deep.equal([0, 1, 0, 1, 0, 1]);
  });

  it('refuses counts, sizes, seeds and classes that make no sense', () => {
    for (const count of [0, -1, 1.5, NaN]) expect(() => generateShapes({ count })).to.throw(RangeError, /count/);
    for (const size of [0, 7, 8.5]) expect(() => generateShapes({ count: 1, size })).to.throw(RangeError, /size/);
    expect(() => generateShapes({ count: 1, first: -1 })).to.throw(RangeError, /first/);
    expect(() => generateShapes({ count: 1, seed: 0.5 })).to.throw(RangeError, /seed/);
    expect(() => generateShapes({ count: 1, classes: ['star', 'blob'] })).to.throw(RangeError, /received "blob"/);
    expect(() => generateShapes({ count: 1, classes: ['star', 'toString'] })).to.throw(
      RangeError,
      /received "toString"/,
    );
    expect(() => generateShapes({ count: 1, classes: ['star'] })).to.throw(RangeError, /two classes/);
  });
});

/** Corner colours and the mean of the picture: background, colour of both. */
function cues({ pixels }: ImageStore, i: number): number[] {
  const picture = pixels.subarray(i * 768, (i + 1) * 768);
  const corners = [0, 15, 240, 255].flatMap((pixel) => [0, 1, 2].map((c) => picture[3 * pixel + c]));
  const centre = [0, 1, 2].map((c) => picture[3 * 136 + c]);
  return [...corners, ...centre];
}
