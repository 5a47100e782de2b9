// Sound that a person speaks and hears, for Node and for browsers: ../README.md says what is told.
//
// `platform` is what differs: `voice(room)` publishes a track and gives `play(samples)`, which ends when all of it was played;
// `heard(track)` gives the samples of a track, part by part. Samples are 48,000 a second, as numbers from -1 to 1.

const RATE = 48_000;
/// In which the power of a tone is compared with that of everything.
const WINDOW = RATE / 10;
/// Below it nothing is heard.
const SILENCE = 0.01;

const voices = new WeakMap();

export async function speak(room, order, platform) {
  let voice = voices.get(room);
  if (voice === undefined) {
    voice = await platform.voice(room);
    voices.set(room, voice);
  }
  await voice.play(order.samples ?? tone(order.hz, order.ms));
  platform.tell('spoken', {});
}

export async function hear(room, { who, hz, ms }, platform) {
  const parts = platform.heard(await trackOf(room, who));
  const [samples, loud] = [[], []];
  const until = Date.now() + ms;
  for (;;) {
    const part = await Promise.race([parts.next(), pause(until - Date.now())]);
    if (part === undefined || part.done) break;
    for (const sample of part.value) samples.push(sample);
    if (Math.sqrt(mean(part.value)) >= SILENCE) loud.push([Date.now(), (part.value.length * 1000) / RATE]);
  }
  parts.return();
  platform.tell('sound', {
    who,
    ms: (samples.length * 1000) / RATE,
    share: hz === undefined ? null : share(samples, hz),
    loud_ms: loud.reduce((sum, [, length]) => sum + length, 0),
    first_loud_at: loud.at(0)?.[0] ?? null,
    last_loud_at: loud.at(-1)?.[0] ?? null,
  });
}

/// The track of sound of a participant, when there is one.
async function trackOf(room, who) {
  for (;;) {
    const publications = room.remoteParticipants.get(who)?.trackPublications.values() ?? [];
    for (const { track } of publications) {
      if (track) return track;
    }
    await pause(10);
  }
}

const pause = (ms) => new Promise((over) => setTimeout(over, Math.max(ms, 0)));

function tone(hz, ms) {
  return Float32Array.from({ length: (RATE * ms) / 1000 }, (_, at) => Math.sin((2 * Math.PI * hz * at) / RATE) / 4);
}

function mean(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return sum / samples.length;
}

/// The part of the power that is at this frequency.
function share(samples, hz) {
  let [at, all] = [0, 0];
  for (let start = 0; start + WINDOW <= samples.length; start += WINDOW) {
    let [sine, cosine] = [0, 0];
    for (let place = 0; place < WINDOW; place++) {
      const sample = samples[start + place];
      sine += sample * Math.sin((2 * Math.PI * hz * place) / RATE);
      cosine += sample * Math.cos((2 * Math.PI * hz * place) / RATE);
      all += sample * sample;
    }
    at += (2 / WINDOW) * (sine * sine + cosine * cosine);
  }
  return at / Math.max(all, 1e-9);
}
