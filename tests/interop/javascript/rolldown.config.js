// One file of the agent and the packages that it uses. The contract's interfaces stay imports.
export default {
  input: 'app.js',
  external: /^wasm-worker:/,
  output: { file: 'dist/app.js' },
};
