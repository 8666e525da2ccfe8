// The arrays that the page was given, which have a value for each token of each row.

const kinds = { f4: Float32Array, u4: Uint32Array, u1: Uint8Array };

async function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

if (!("DecompressionStream" in globalThis)) fail("This browser is too old for the page; it needs one of 2023 or later.");
const block = await unpack(data.arrays);
const array = (place) => place && new kinds[place.type](block, place.at, place.length);

const tokens = array(data.tokens);
const counted = array(data.counted);
const references = data.references.map((reference) => array(reference.nll));
const policies = data.policies.map((policy) => array(policy.nll));
const strategies = data.strategies.map((strategy) => ({
  ...strategy,
  neutral: array(strategy.neutral),
  // Where it compares with none, the first that is there tells what it leaves unused.
  referenceNll: references[strategy.reference ?? 0] ?? null,
  referenceName: data.references[strategy.reference ?? 0]?.name ?? null,
  weighed: strategy.weighed.map((weighed) => ({
    weights: array(weighed.weights),
    compared: array(weighed.compared),
    centered: array(weighed.centered),
  })),
}));

// Each document of each row: where its tokens lie in the arrays.
const documents = [];
const ofToken = new Uint32Array(tokens.length);
data.documents.forEach((ofRow, row) => {
  let start = row * data.time;
  ofRow.forEach(([source, length], place) => {
    ofToken.fill(documents.length, start, start + length);
    documents.push({ row, source, place, of: ofRow.length, start, stop: start + length });
    start += length;
  });
});

const state = { left: 0, right: strategies.length > 1 ? 1 : -1, figures: 0, policy: 0, scale: "own", sources: new Set() };
data.sources.forEach((_, source) => state.sources.add(source));

const sides = () => (state.right < 0 ? [state.left] : [state.left, state.right]);
const shown = (index) => data.vocabulary.shown[tokens[index]];
const isRanked = (strategy, index) => counted[index] === 1 && strategy.neutral[index] === 0;
const isChosen = (index) => state.sources.has(documents[ofToken[index]].source);

// -1 at the lower bound of the strategy's clip, 1 at the upper, else 0.
function clipped(strategy, weight, index) {
  if (!strategy.bounds.length || !isRanked(strategy, index)) return 0;
  return weight <= strategy.bounds[0] ? -1 : weight >= strategy.bounds[1] ? 1 : 0;
}

// Nats by which the reference finds a token easier: log p_reference - log p_compared.
function excess(strategy, policy, index) {
  return strategy.referenceNll && strategy.weighed[policy].compared[index] - strategy.referenceNll[index];
}
