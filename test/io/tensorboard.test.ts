import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { eventFiles, EventFileWriter, WriteError, type ScalarEvent } from '../../lib/io';
import { crc32c, readEvents } from './event-reader';

const events: ScalarEvent[] = [
  { step: 0, time: 1764000000.25, scalars: { 'knn/1': 0.5 } },
  { step: 300, time: 1764000001, scalars: { 'loss/total': 2.25, 'loss/0.25': 1e-3, lr: 0 } },
];

describe('EventFileWriter', () => {
  let folder: string;
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'slimclr-events-'))));
  afterEach(() => rmSync(folder, { recursive: true }));

  const replace = (...begin: ScalarEvent[]) => EventFileWriter.replace(folder, begin);
  const onlyFile = () => {
    const files = eventFiles(folder);
    expect(files).to.have.length(1);
    return files[0];
  };

  it('is read with a checksum that is right (RFC 3720, appendix B.4)', () => {
    const ascending = [...Array(32).keys()];
    expect(crc32c(Buffer.alloc(32))).to.equal(0x8a9136aa);
    expect(crc32c(Buffer.alloc(32, 255))).to.equal(0x62a8ab43);
    expect(crc32c(Buffer.from(ascending))).to.equal(0x46dd794e);
    expect(crc32c(Buffer.from(ascending.reverse()))).to.equal(0x113fdb5c);
    const command =
      '01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018 28000000 00000000 02000000 00000000';
    expect(crc32c(Buffer.from(command.replaceAll(' ', ''), 'hex'))).to.equal(0xd9963a56);
  });

  it('writes byte for byte what TensorBoard does', () => {
    // From TensorBoard 2.21's RecordWriter and protobuf.
    const expected =
      '33000000000000000ca7205609000010402049da4110ac022a250a110a0a6c6f73732f746f74616c15000010400a100a096c6f73732f302e32' +
      '35156f1283ba5fb46cb6aa00000000000000adb5492209000000000000f83f108580808080202a97010a94010a8c01' +
      'c3a4'.repeat(70) +
      '1500000000376d3b30';
    const writer = replace();
    const begin = readFileSync(onlyFile()).length;
    writer.write({ step: 300, time: 1764000000.25, scalars: { 'loss/total': 2.25, 'loss/0.25': -1e-3 } });
    writer.write({ step: 2 ** 40 + 5, time: 1.5, scalars: { ['ä'.repeat(70)]: 0 } });
    expect(readFileSync(onlyFile()).subarray(begin).toString('hex')).to.equal(expected);
    writer.close();
  });

  it('begins with the version and the start of a session, then the events, on the disk at once', () => {
    const writer = replace(events[0]);
    writer.write(events[1]);
    const [version, start, ...rest] = readEvents(onlyFile());
    expect(version).to.include({ version: 'brain.Event:2', start: false, step: 0 });
    expect(version.time).to.be.closeTo(Date.now() / 1000, 60);
    expect(start).to.include({ start: true, step: 0 });
    expect(rest).to.deep.equal(
      events.map(({ step, time, scalars }) => ({
        step,
        time,
        start: false,
        scalars: Object.fromEntries(Object.entries(scalars).map(([tag, value]) => [tag, Math.fround(value)])),
      })),
    );
    writer.close();
    writer.close();
    expect(() => writer.write(events[1])).to.throw(WriteError, /closed/);
  });

  it('replaces its former files by one of a later name, and nothing of anybody else', () => {
    const foreign = join(folder, 'events.out.tfevents.1.host');
    writeFileSync(foreign, 'x');
    replace(...events).close();
    const first = basename(onlyFile());
    replace(events[0]).close(); // within the same second
    const second = basename(onlyFile());
    expect(second > first).to.equal(true);
    const ahead = 'events.out.tfevents.9999999990.slimclr'; // the clock was set back
    writeFileSync(join(folder, ahead), '');
    replace(events[0]).close();
    expect(basename(onlyFile()) > ahead).to.equal(true);
    expect(readEvents(onlyFile())).to.have.length(3);
    expect(existsSync(foreign)).to.equal(true);
  });

  it('keeps whole records on a full disk, and the former file where it could not be replaced', function () {
    const disk = join(folder, 'disk');
    mkdirSync(disk);
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', disk]).status !== 0) this.skip(); // needs root
    try {
      const many = Array.from({ length: 10_000 }, (_, step) => ({ ...events[0], step }));
      const writer = EventFileWriter.replace(disk, []);
      expect(() => many.forEach((event) => writer.write(event))).to.throw(WriteError, /Free space/);
      writer.close();
      const [former] = eventFiles(disk);
      expect(readEvents(former).length).to.be.greaterThan(100);
      expect(() => EventFileWriter.replace(disk, many)).to.throw(WriteError, /Free space/);
      expect(readdirSync(disk)).to.deep.equal([basename(former)]);
    } finally {
      spawnSync('umount', [disk]);
    }
  });
});
