import { expect } from 'chai';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { acquireRunLock, LOCK_NAME, RunLockError } from '../../lib/io';

const MODULE = require.resolve('../../lib/io/run-lock');
/** A process that takes the lock, says so, and keeps it until its input ends. */
const HOLDER = `require('ts-node/register'); require(${JSON.stringify(MODULE)}).acquireRunLock(process.argv[1])
  .then(() => console.log('held'), (e) => console.log(e.name)); process.stdin.resume();`;

describe('acquireRunLock', function () {
  this.timeout(30_000);
  let folder: string;
  let lock: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'slimclr-lock-'));
    lock = join(folder, LOCK_NAME);
  });
  afterEach(() => rm(folder, { recursive: true }));

  const failureOf = (wanted: Promise<unknown>): Promise<RunLockError> =>
    wanted.then(
      () => expect.fail('took the lock'),
      (error: RunLockError) => {
        expect(error).to.be.instanceOf(RunLockError);
        return error;
      },
    );

  const deadPid = (): number => spawnSync(process.execPath, ['-e', '']).pid;

  function startHolder(): { child: ReturnType<typeof spawn>; said: Promise<string> } {
    const child = spawn(process.execPath, ['-e', HOLDER, folder], { stdio: ['pipe', 'pipe', 'inherit'] });
    return { child, said: once(child.stdout, 'data').then(([data]) => String(data).trim()) };
  }

  it('creates the folder, is held once, and can be taken again after release', async () => {
    const out = join(folder, 'a', 'b');
    const held = await acquireRunLock(out);
    expect(JSON.parse(await readFile(held.file, 'utf8'))).to.include({ pid: process.pid, host: hostname() });
    expect((await failureOf(acquireRunLock(out))).message).to.match(/in use by this process itself/);
    held.release();
    held.release();
    (await acquireRunLock(out)).release();
  });

  it('takes the folders away again that it made, if nothing else came into them, and no others', async () => {
    const out = join(folder, 'a', 'b');
    (await acquireRunLock(out)).release();
    expect(await readdir(folder)).to.deep.equal([]);
    const held = await acquireRunLock(`${out}/`);
    await writeFile(join(folder, 'a', 'other'), '');
    held.release();
    expect(await readdir(folder, { recursive: true })).to.deep.equal(['a', 'a/other']);
    const filled = await acquireRunLock(out);
    await writeFile(join(out, 'result'), '');
    filled.release();
    expect(await readdir(out)).to.deep.equal(['result']);
    (await acquireRunLock(folder)).release();
    expect(existsSync(folder)).to.equal(true);
  });

  it('refuses while another process holds it, naming it; takes over when that one was killed', async () => {
    const { child, said } = startHolder();
    expect(await said).to.equal('held');
    const error = await failureOf(acquireRunLock(folder));
    expect(error.message)
      .to.include(`process ${child.pid} on ${hostname()}`)
      .and.match(/another output folder/);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(existsSync(lock)).to.equal(true);
    const held = await acquireRunLock(folder);
    expect(JSON.parse(await readFile(lock, 'utf8'))).to.have.property('pid', process.pid);
    held.release();
    expect(await readdir(folder)).to.deep.equal([]);
  });

  it('is released when the process ends', async () => {
    const { child, said } = startHolder();
    expect(await said).to.equal('held');
    child.stdin!.end();
    await once(child, 'exit');
    expect(await readdir(folder)).to.deep.equal([]);
  });

  it('lets exactly one of many processes take over a stale lock', async () => {
    await writeFile(lock, JSON.stringify({ pid: deadPid(), host: hostname(), started: 'x', processStart: '1' }));
    const holders = Array.from({ length: 6 }, startHolder);
    const said = await Promise.all(holders.map((holder) => holder.said));
    holders.forEach(({ child }) => child.kill('SIGKILL'));
    expect(said.sort()).to.deep.equal([
      'RunLockError',
      'RunLockError',
      'RunLockError',
      'RunLockError',
      'RunLockError',
      'held',
    ]);
  });

  it('tells a later process of the same number from the holder', async function () {
    if (!existsSync('/proc/self/stat')) this.skip();
    await writeFile(lock, JSON.stringify({ pid: process.ppid, host: hostname(), started: 'x', processStart: '1' }));
    (await acquireRunLock(folder)).release();
  });

  it('does not take over from another machine, and says how to', async () => {
    await writeFile(lock, JSON.stringify({ pid: deadPid(), host: 'elsewhere', started: '2024-01-01T00:00:00Z' }));
    const error = await failureOf(acquireRunLock(folder));
    expect(error.message)
      .to.match(/on elsewhere \(since 2024-01-01T00:00:00Z\)/)
      .and.include(`remove ${lock}`);
  });

  for (const [what, text] of [
    ['empty', ''],
    ['cut off', '{"pid":1'],
    ['of another form', '{"pid":-1,"host":2}'],
  ]) {
    it(`takes over a lock file that is ${what}, as a power cut leaves it`, async () => {
      await writeFile(lock, text);
      (await acquireRunLock(folder)).release();
    });
  }

  it('does not remove a lock that is no longer its own', async () => {
    const held = await acquireRunLock(folder);
    await writeFile(lock, 'another');
    held.release();
    expect(await readFile(lock, 'utf8')).to.equal('another');
  });

  it('says what to do when the folder cannot be made', async () => {
    await writeFile(join(folder, 'file'), '');
    expect((await failureOf(acquireRunLock(join(folder, 'file')))).message).to.match(/a file is in the way/);
    expect((await failureOf(acquireRunLock(join(folder, 'file', 'sub')))).message).to.match(/a file is in the way/);
  });
});
