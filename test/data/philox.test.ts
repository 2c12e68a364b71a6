import { expect } from 'chai';
import { permutation, Philox, philox4x32 } from '../../lib/data';

describe('Philox', () => {
  const ones = 0xffffffff;
  // Known answers of the authors' Random123 library.
  const known: [string, number[], number[]][] = [
    ['zeros', [0, 0, 0, 0, 0, 0], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]],
    ['ones', [ones, ones, ones, ones, ones, ones], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]],
    [
      'digits of pi',
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ];
  for (const [name, [c0, c1, c2, c3, k0, k1], expected] of known) {
    it(`gives the known answer for ${name}`, () => {
      const out = new Uint32Array(4);
      philox4x32(c0, c1, c2, c3, k0, k1, out);
      expect([...out]).to.deep.equal(expected);
    });
  }

  it('is a sequence of its blocks, of its own for each seed, stream and index', () => {
    const first = new Uint32Array(4);
    philox4x32(0, 0, 0, 0, 0, 0, first);
    const random = new Philox(0, 0);
    expect([0, 1, 2, 3].map(() => random.uint32())).to.deep.equal([...first]);
    const starts = [new Philox(0, 0), new Philox(1, 0), new Philox(2 ** 32, 0), new Philox(0, 1), new Philox(0, 0, 1)];
    expect(new Set(starts.map((r) => r.uint32())).size).to.equal(5);
  });

  it('draws evenly', () => {
    const random = new Philox(3, 1);
    const counts = new Array<number>(10).fill(0);
    let sum = 0;
    for (let i = 0; i < 100_000; i++) {
      counts[random.below(10)]++;
      const u = random.uniform(-1, 1);
      expect(u >= -1 && u < 1).to.equal(true);
      sum += u;
    }
    for (const count of counts) expect(count).to.be.within(9600, 10400);
    expect(Math.abs(sum / 100_000)).to.be.lessThan(0.01);
  });

  it('refuses seeds that are no whole numbers from 0 to 2^53 - 1', () => {
    for (const seed of [-1, 0.5, NaN, Infinity, 2 ** 53])
      expect(() => new Philox(seed, 0)).to.throw(RangeError, /seed/);
  });
});

describe('permutation', () => {
  it('holds every number once and reaches every place', () => {
    const places = new Int32Array(20);
    for (let index = 0; index < 4000; index++) {
      const order = permutation(20, new Philox(0, 0, index));
      expect([...order].sort((a, b) => a - b)).to.deep.equal(Array.from({ length: 20 }, (_, i) => i));
      places[order.indexOf(0)]++;
    }
    for (const count of places) expect(count).to.be.within(140, 260);
    expect(permutation(0, new Philox(0, 0))).to.have.length(0);
  });
});
