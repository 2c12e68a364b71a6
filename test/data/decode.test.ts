import { expect } from 'chai';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { BadImageError, decodeImage } from '../../lib/data';

describe('decodeImage', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'slimclr-decode-'));
  });
  after(() => rm(folder, { recursive: true }));

  async function decode(bytes: Buffer, options?: { shrinkTo?: number }): ReturnType<typeof decodeImage> {
    const file = join(folder, 'picture');
    await writeFile(file, bytes);
    return decodeImage(file, options);
  }

  async function failure(bytes: Buffer): Promise<BadImageError> {
    const error = await decode(bytes).then(
      () => expect.fail('decoded without an error'),
      (e: Error) => e,
    );
    expect(error).to.be.instanceOf(BadImageError);
    expect((error as BadImageError).file).to.equal(join(folder, 'picture'));
    return error as BadImageError;
  }

  const raw = (data: number[], width: number, height: number, channels: 1 | 2 | 3 | 4): sharp.Sharp =>
    sharp(Uint8Array.from(data), { raw: { width, height, channels } });

  /** 8 x 4: the left half red, the right half blue. */
  const halves = (): sharp.Sharp =>
    raw(Array.from({ length: 32 }, (_, i) => (i % 8 < 4 ? [255, 0, 0] : [0, 0, 255])).flat(), 8, 4, 3);

  it('gives RGB row by row for PNG and lossless WebP, exactly', async () => {
    const pixels = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 250, 251, 252, 253, 254, 255];
    for (const bytes of [
      await raw(pixels, 3, 2, 3).png().toBuffer(),
      await raw(pixels, 3, 2, 3).webp({ lossless: true }).toBuffer(),
    ]) {
      const image = await decode(bytes);
      expect([image.height, image.width]).to.deep.equal([2, 3]);
      expect([...image.pixels]).to.deep.equal(pixels);
    }
  });

  it('decodes JPEG', async () => {
    const image = await decode(await halves().jpeg({ quality: 100, chromaSubsampling: '4:4:4' }).toBuffer());
    expect([image.height, image.width]).to.deep.equal([4, 8]);
    expect(image.pixels[0]).to.be.greaterThan(240);
    expect(image.pixels[23]).to.be.greaterThan(240);
  });

  it('makes grey, palette and one-bit pictures RGB', async () => {
    const grey = await decode(await raw([0, 100, 200, 255], 2, 2, 1).toColourspace('b-w').png().toBuffer());
    expect([...grey.pixels]).to.deep.equal([0, 0, 0, 100, 100, 100, 200, 200, 200, 255, 255, 255]);
    const palette = await decode(await halves().png({ palette: true }).toBuffer());
    expect([...palette.pixels.subarray(0, 3), ...palette.pixels.subarray(21, 24)]).to.deep.equal([
      255, 0, 0, 0, 0, 255,
    ]);
    const bits = await decode(
      await raw([0, 255, 255, 0], 2, 2, 1).toColourspace('b-w').png({ palette: true, colours: 2 }).toBuffer(),
    );
    expect([...bits.pixels.subarray(0, 6)]).to.deep.equal([0, 0, 0, 255, 255, 255]);
  });

  it('lays transparency on white', async () => {
    const rgba = await decode(await raw([10, 20, 30, 255, 10, 20, 30, 0, 0, 0, 0, 128], 3, 1, 4).png().toBuffer());
    expect([...rgba.pixels.subarray(0, 6)]).to.deep.equal([10, 20, 30, 255, 255, 255]);
    expect(rgba.pixels[6]).to.be.within(126, 128);
    const greyAlpha = await decode(await raw([100, 255, 100, 0], 2, 1, 2).toColourspace('b-w').png().toBuffer());
    expect([...greyAlpha.pixels]).to.deep.equal([100, 100, 100, 255, 255, 255]);
  });

  it('makes 16 bits per channel 8', async () => {
    const words = Uint16Array.of(0, 0x8000, 0xffff, 0x1234, 0x00ff, 0xff00);
    const colour = sharp(words, { raw: { width: 2, height: 1, channels: 3 } }).toColourspace('rgb16');
    expect([...(await decode(await colour.png().toBuffer())).pixels]).to.deep.equal([0, 0x80, 0xff, 0x12, 0, 0xff]);
    const alpha = sharp(Uint16Array.of(0, 0x8000, 0xffff, 0xffff, 0, 0, 0, 0), {
      raw: { width: 2, height: 1, channels: 4 },
    });
    expect([...(await decode(await alpha.toColourspace('rgb16').png().toBuffer())).pixels]).to.deep.equal([
      0, 0x80, 0xff, 255, 255, 255,
    ]);
    const grey = sharp(Uint16Array.of(0, 0xffff), { raw: { width: 2, height: 1, channels: 1 } }).toColourspace(
      'grey16',
    );
    expect([...(await decode(await grey.png().toBuffer())).pixels]).to.deep.equal([0, 0, 0, 255, 255, 255]);
  });

  it('turns pictures as EXIF says', async () => {
    const image = await decode(await halves().withMetadata({ orientation: 6 }).png().toBuffer());
    expect([image.height, image.width]).to.deep.equal([8, 4]);
    expect([...image.pixels.subarray(0, 3)]).to.deep.equal([255, 0, 0]);
    expect([...image.pixels.subarray(-3)]).to.deep.equal([0, 0, 255]);
  });

  it('makes CMYK sRGB', async () => {
    const image = await decode(await halves().toColourspace('cmyk').jpeg({ quality: 100 }).toBuffer());
    expect([image.height, image.width, image.pixels.length]).to.deep.equal([4, 8, 96]);
    expect(image.pixels[0]).to.be.greaterThan(180); // red, as far as print colours hold it
    expect(image.pixels[2]).to.be.lessThan(100);
    expect(image.pixels[23]).to.be.greaterThan(100); // blue
    expect(image.pixels[21]).to.be.lessThan(100);
  });

  it('scales large pictures down to a shorter side, and small ones not up', async () => {
    const large = await sharp({ create: { width: 900, height: 600, channels: 3, background: '#336699' } })
      .jpeg()
      .toBuffer();
    const image = await decode(large, { shrinkTo: 64 });
    expect([image.height, image.width]).to.deep.equal([64, 96]);
    expect(image.pixels[0]).to.be.within(0x31, 0x35);
    const turned = await decode(await sharp(large).withMetadata({ orientation: 8 }).jpeg().toBuffer(), {
      shrinkTo: 64,
    });
    expect([turned.height, turned.width]).to.deep.equal([96, 64]);
    const small = await decode(await halves().png().toBuffer(), { shrinkTo: 64 });
    expect([small.height, small.width]).to.deep.equal([4, 8]);
  });

  describe('names as bad', () => {
    const noise = (): sharp.Sharp =>
      raw(
        Array.from({ length: 64 * 64 * 3 }, (_, i) => (Math.imul(i, 2654435761) >>> 24) & 255),
        64,
        64,
        3,
      );
    const formats: [string, () => Promise<Buffer>][] = [
      ['JPEG', () => noise().jpeg().toBuffer()],
      ['progressive JPEG', () => noise().jpeg({ progressive: true }).toBuffer()],
      ['PNG', () => noise().png().toBuffer()],
      ['WebP', () => noise().webp().toBuffer()],
    ];

    for (const [format, make] of formats) {
      it(`a ${format} cut off anywhere`, async function () {
        this.timeout(20_000);
        const whole = await make();
        await decode(whole);
        for (let part = 0; part < 40; part++) await failure(whole.subarray(0, Math.floor((whole.length * part) / 40)));
      });
    }

    it('an empty file, text, and random bytes', async () => {
      expect((await failure(Buffer.alloc(0))).reason).to.match(/empty/i);
      expect((await failure(Buffer.from('no picture'))).reason).to.match(/unsupported image format/);
      await failure(Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7919) % 256)));
    });

    it('a JPEG and a PNG with damaged data', async () => {
      for (const make of [formats[0][1], formats[2][1]]) {
        const bytes = await make();
        const middle = bytes.length >> 1;
        bytes.fill(0xff, middle, middle + 200);
        await failure(bytes);
      }
    });

    it('a picture of too many pixels', async () => {
      // A PNG header that claims 65,000 x 65,000; its checksum is right.
      const bytes = await raw([0, 0, 0], 1, 1, 3).png().toBuffer();
      bytes.writeUInt32BE(65_000, 16);
      bytes.writeUInt32BE(65_000, 20);
      bytes.writeUInt32BE(crc32(bytes.subarray(12, 29)), 29);
      expect((await failure(bytes)).reason).to.match(/pixel limit/);
    });

    it('a missing file and a folder', async () => {
      for (const path of [join(folder, 'none'), folder]) {
        const error = await decodeImage(path).catch((e: Error) => e);
        expect(error).to.be.instanceOf(BadImageError).with.property('message').that.includes(path);
      }
    });

    it('random damage, or decodes it: never crashes', async function () {
      this.timeout(30_000);
      let bad = 0;
      for (const [, make] of formats) {
        const whole = await make();
        for (let round = 0; round < 60; round++) {
          const bytes = Buffer.from(whole);
          for (let n = 0; n < 4; n++)
            bytes[(Math.imul(round * 4 + n, 2654435761) % bytes.length) >>> 0] ^= 1 + ((round * 37) % 255);
          const image = await decode(bytes).catch((error: Error) => error);
          if (image instanceof Error) {
            expect(image).to.be.instanceOf(BadImageError);
            bad++;
          } else expect(image.pixels.length).to.equal(image.height * image.width * 3);
        }
      }
      expect(bad).to.be.greaterThan(50);
    });
  });

  it('does not keep the file', async () => {
    const bytes = await halves().png().toBuffer();
    await decode(bytes);
    const other = await decode(await raw([9, 9, 9], 1, 1, 3).png().toBuffer()); // same path, new content
    expect([...other.pixels]).to.deep.equal([9, 9, 9]);
    expect(await readFile(join(folder, 'picture'))).to.not.deep.equal(bytes);
  });
});

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}
