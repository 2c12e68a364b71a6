// The tests run on transpiled files, which starts faster; type errors are found by `npm run lint` and `npm run build`.
// Mocha adds files named on the command line to `spec`: with such, they run alone.
const named = process.argv.slice(2).some((word) => word.endsWith('.ts'));

module.exports = {
  require: ['ts-node/register/transpile-only'],
  spec: named ? [] : ['test/**/*.test.ts', 'test/parity/*.parity.ts'],
  timeout: 60_000,
  reporter: 'scripts/mocha-reporter.js',
};
