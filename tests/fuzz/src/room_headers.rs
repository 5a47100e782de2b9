//! The headers of texts and files that participants send, each followed by its content, as [`crate::room_packets`] plays them.

use crate::parts::parts;
use crate::room_packets;

/// Each part is a header and, after a line of one dash, what follows: the first byte says how it is cut into chunks.
pub fn run(bytes: &[u8]) {
    let mut script = Vec::new();
    for (at, part) in parts(bytes).enumerate() {
        let cut = part.windows(3).position(|window| window == b"\n-\n");
        let (header, content) = cut.map_or((part, &[][..]), |cut| (&part[..cut], &part[cut + 3..]));
        // Half of them come in parts.
        let delivery = if at % 2 == 0 { b"R\x01" } else { b"R\x00" };
        push(&mut script, delivery);
        push(&mut script, &[b"h\x01", header].concat());
        let (size, content) = content.split_first().map_or((1, content), |(size, rest)| (usize::from(*size), rest));
        for chunk in content.chunks(size.max(1)) {
            // One of its own, whatever the parts of it are.
            let chunk: Vec<u8> = chunk.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
            push(&mut script, &[&[b'c', u8::try_from(at % 256).unwrap_or(0)], chunk.as_slice()].concat());
        }
        push(&mut script, &[b'z', u8::try_from(at % 256).unwrap_or(0)]);
    }
    room_packets::run(&script);
}

fn push(script: &mut Vec<u8>, part: &[u8]) {
    if !script.is_empty() {
        script.extend(b"\n--\n");
    }
    script.extend(part);
}
