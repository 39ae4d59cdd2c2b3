"""Names of fields in other trainers, and the fields for them here.

The names are from Hugging Face's Trainer and TRL, Axolotl, LLaMA-Factory, torchtune, Megatron-LM and DeepSpeed, in lower case and without
word breaks: `lora_r` and `loraR` are lorar.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmtrain_operator.manifest.document import Path

_SPEC: Mapping[str, str] = {
    "task": "stage trainingtype trainertype",
    "model.source": "basemodel modelname modelnameorpath pretrainedmodelnameorpath modelpath checkpointpath modelid tokenizernameorpath "
    "pretrained hfpath",
    "model.revision": "modelrevision revisionofmodel",
    "model.attention": "attnimplementation attentionimplementation flashattention flashattn useflashattention2 useflashattn sdpattention",
    "tokenizer.source": "tokenizername tokenizerpath tokenizerfile tokenizermodel",
    "dataset": "datasets data trainfile trainfiles trainingdata traindata datapath datasetname datasetpath datasetdir pretrainingdataset "
    "trainingfile",
    "evaluation.dataset": "evaldataset evaldatasets validationfile testdatasets validationdata evalfile",
    "evaluation.split": "valsetsize valsize validationsplit validationsplitpercentage testsize evalsplit valsplit",
    "evaluation.everySteps": "evalsteps evalinterval evalevery evalstepinterval evalfrequency",
    "peft.method": "adapter finetuningtype usepeft uselora",
    "peft.rank": "lorar lorarank r loradim",
    "peft.alpha": "loraalpha",
    "peft.learningRateRatio": "lorapluslrratio loraplusratio loraplusbratio",
    "peft.dropout": "loradropout",
    "peft.targetModules": "loratarget loratargetmodules loratargetlinear targetlinear loraattnmodules",
    "training.sequenceLength": "maxlength maxseqlength maxseqlen sequencelen seqlength seqlen cutofflen modelmaxlength blocksize "
    "contextlength contextsize nctx maxtokens encoderseqlength",
    "training.maxSteps": "maxiters maxiterations trainsteps trainiters totalsteps numsteps iterations steps maxtrainsteps numtrainsteps",
    "training.epochs": "numepochs numtrainepochs nepochs trainepochs",
    "training.globalBatchSize": "batchsize trainbatchsize totalbatchsize effectivebatchsize globaltrainbatchsize",
    "training.microBatchSize": "perdevicetrainbatchsize pertrainbatchsize perdevicebatchsize trainmicrobatchsizepergpu "
    "devicetrainmicrobatchsize devicebatchsize microbatch",
    "training.precision": "dtype bf16 fp16 mixedprecision torchdtype purebf16 amp",
    "training.optimizer.name": "optim optimizer optimizertype optimname",
    "training.optimizer.learningRate": "lr baselr peaklr maxlr initiallr",
    "training.optimizer.epsilon": "eps adamepsilon adameps",
    "training.optimizer.weightDecay": "wd",
    "training.schedule.name": "lrscheduler lrschedulertype scheduler lrdecaystyle schedulertype lrschedule",
    "training.schedule.warmupSteps": "warmup numwarmupsteps lrwarmupsteps warmupiters lrwarmupiters",
    "training.schedule.warmupRatio": "warmupratio lrwarmupfraction",
    "training.schedule.minRatio": "cosineminlrratio minlrratio",
    "training.gradientClipping": "maxgradnorm clipgrad gradclip gradientclip gradientclipval clipgradnorm gradnormclip",
    "training.activationCheckpointing": "gradientcheckpointing recompute recomputeactivations recomputegranularity",
    "training.packing": "samplepacking packed packsequences multipackedsampling",
    "training.compile": "torchcompile compilemodel",
    "training.seed": "randomseed dataseed",
    "training.logEverySteps": "loggingsteps loginterval logevery logeverynsteps",
    "parallelism.tensor": "tp tpsize tensorparallel tensorparallelsize tensormodelparallelsize tensorparalleldegree",
    "parallelism.pipeline": "pp ppsize pipelineparallel pipelineparallelsize pipelinemodelparallelsize pipelineparalleldegree",
    "parallelism.data": "dp dpsize dataparallel dataparallelsize dpshardsize dpreplicatesize",
    "parallelism.context": "cp cpsize contextparallel contextparallelsize contextparalleldegree",
    "parallelism.expert": "ep epsize expertparallel expertparallelsize expertmodelparallelsize",
    "parallelism.zeroStage": "zero stage3 zerooptimization",
    "checkpoint.destination": "outputdir savedir checkpointdir ckptdir ckptpath savepath save checkpointfolder outputpath logdir",
    "checkpoint.every.steps": "savesteps saveinterval saveevery checkpointinterval checkpointevery",
    "checkpoint.keep": "savetotallimit keeplast maxcheckpoints numcheckpointstokeep",
    "checkpoint.resume": "resumefromcheckpoint autoresumefromcheckpoints resumefrom load loadpath",
    "resources.nodes": "numnodes nnodes replicas numreplicas workers",
    "resources.gpusPerNode": "gpus numgpus ngpus ngpupernode numgpuspernode gpucount gpuspernodecount devices",
    "resources.gpu": "gputype accelerator gpuproduct acceleratortype gpuname",
    "resources.procsPerNode": "nprocpernode numprocesses nprocs numproc",
    "resilience.restarts.max": "maxrestarts backofflimit restartlimit",
}
"""Field of spec -> its other names."""

FIELDS: Mapping[str, str] = {name: f"spec.{field}" for field, names in _SPEC.items() for name in names.split()}

_PLACES = "path uri url location name id repo repository"
_DIRECTORIES = "dir directory path folder uri url location store output"
_INSIDE: Mapping[str, Mapping[str, str]] = {
    "dataset": {
        "source": "path url uri file files datafiles filename location dataset dspath",
        "format": "type kind formatting dstype",
        "columns.text": "field textcolumn textfield fieldtext content",
        "columns.prompt": "promptcolumn inputcolumn question",
        "columns.completion": "completioncolumn responsecolumn outputcolumn answer responsefield",
        "columns.messages": "fieldmessages messagescolumn conversationcolumn",
        "columns.conversations": "conversationscolumn fieldconversations",
        "columns.instruction": "fieldinstruction instructioncolumn",
        "columns.input": "fieldinput",
        "columns.output": "fieldoutput",
        "columns.history": "historycolumn fieldhistory",
        "columns.system": "fieldsystem systemcolumn systemfield",
        "columns.tools": "fieldtools toolscolumn",
        "split": "trainonsplit subsetsplit datasplit",
        "subset": "name config configname",
        "where": "filter filterexpression",
        "weight": "ratio proportion probability samplingratio mixratio",
        "csv.separator": "delimiter sep separator csvdelimiter",
        "csv.header": "columnnames",
        "badRows": "onbadrow onerror invalidrows onbadlines",
        "maxSamples": "limit nsamples numsamples maxrows samples",
    },
    "model": {"source": f"{_PLACES} pretrained weights checkpoint", "config": "architecture shape hparams"},
    "tokenizer": {"source": f"{_PLACES} file", "chatTemplate": "template"},
    "checkpoint": {"destination": _DIRECTORIES, "every.interval": "time minutes", "every.steps": "interval frequency everysteps"},
    "output": {"destination": _DIRECTORIES, "export": "formats format kinds"},
    "optimizer": {"name": "type kind algorithm", "learningRate": "rate"},
    "schedule": {"name": "type kind"},
    "peft": {"method": "type name kind", "rank": "dim", "targetModules": "modules target targets layers"},
    "resources": {"gpu": "type product model", "memory": "ram mem", "cpu": "cpus cores"},
}
"""Names in a section -> fields of that section."""

INSIDE: Mapping[str, Mapping[str, str]] = {
    section: {name: field for field, names in fields.items() for name in names.split()} for section, fields in _INSIDE.items()
}

_FOLLOWS = "it follows from"
SAYINGS: tuple[tuple[str, str], ...] = (
    (
        r"gradientaccumulation(steps)?|accumulategradbatches|gradaccum\w*",
        f"Leave it out: {_FOLLOWS} globalBatchSize, microBatchSize and the layout",
    ),
    ("worldsize|nproc", f"Leave it out: {_FOLLOWS} nodes and the devices of each"),
    (
        r"loadin[48]bit|quantization\w*|qlora\w*|bnb\w*|qat|fp8\w*|quantize\w*|modelquantization\w*|int8|gptq\w*",
        "Leave it out: weights are trained unquantized, in bf16 or fp32; adapters (spec.peft) need the least memory",
    ),
    (
        r"reportto|wandb\w*|swanlab\w*|usewandb|usetensorboard|tensorboard\w*|mlflow\w*|comet\w*|plotloss|runname|loggingdir|logwith",
        "Leave it out: each run writes rows of metrics and a report, and Prometheus can scrape the same numbers",
    ),
    (
        r"liger\w*|lora\w*kernel|cutcrossentropy|usekernels|fused\w*|usev1kernels|usesonicmoe|usescattermoe|expertsimplementation|tf32|enableligerkernel",
        "Leave it out: the engines choose their kernels",
    ),
    (r"trustremotecode|allowremotecode", "Leave it out: code from a model repository is never run"),
    (
        r"preprocessingnumworkers|dataloader\w*|datasetprocesses|datasetprepared\w*|overwrite(cache|outputdir)|skippreparedataset|shufflemerged\w*"
        r"|datasetnumproc|streamingmultipack\w*|groupbylength|padtosequencelen|evalsamplepacking|removeunusedcolumns|maxprompt\w*",
        "Leave it out: the data is prepared once, shuffled by training.seed and kept in a cache",
    ),
    (
        r"dotrain|doeval|dopredict|plugins|ddp\w*|lowcpumemusage|saveonlymodel|savesafetensors|modeltype|tokenizertype|processortype|localrank",
        "Leave it out: it is not needed",
    ),
    (r"(adam)?beta[12]|adambeta", "Write spec.training.optimizer.betas: [0.9, 0.999], both of them"),
    (r"(min|eta)(lr|min)|minlearningrate", "Write spec.training.schedule.minRatio: the final learning rate as a share of the peak"),
    (r"savesperepoch|savestrategy", "Write spec.checkpoint.every, such as {steps: 500}"),
    (r"evalsperepoch|(eval|evaluation)strategy", "Write spec.evaluation.everySteps: the number of steps"),
    (
        r"fsdp\w*|zero3\w*|shardingstrategy",
        "Leave it out, or write spec.parallelism.zeroStage: 3 to shard weights, gradients and optimizer state, which is the default",
    ),
    (
        r"template|conversationtemplate|eottokens|specialtokens|tokens|addedtokens\w*",
        "Leave it out: the tokenizer's own template and tokens are used; spec.tokenizer.chatTemplate takes another Jinja template or the "
        "name of one",
    ),
    (
        r"trainoninputs|maskprompt|completiononlyloss|assistantonlyloss|rolestotrain",
        "Leave it out: format text trains on every token, every other format on answers only",
    ),
    (
        r"rl|dpo\w*|grpo\w*|trl|kto\w*|orpo\w*|prefbeta|prefloss|rewardmodel|ebft|simpo\w*|ppo\w*",
        "Leave it out: this version has the tasks pretrain and sft, without preferences or rewards",
    ),
    (
        r"messagepropertymappings|messagefield\w*|roletag|contenttag|(user|assistant|observation|function|system)tag|ruletags?|tags",
        "Leave it out: format sharegpt reads turns of from and value, messages those of role and content; roles of a dataset "
        "names further speakers",
    ),
    (
        r"command|args|volumes|volumemounts|container\w*|restartpolicy|podtemplate|template\w*spec",
        "Leave it out: the operator renders the pods; spec.resources and spec.scheduling have the settings of a job for them",
    ),
    (r"dora|usedora", "Write method: dora in spec.peft"),
    (
        r"neftune\w*|labelsmoothing\w*|losswatchdog\w*|unfrozenparameters|lora(target)?parameters|loramodulestosave|modulestosave|loftq\w*|lisa\w*|galore\w*|spectrum\w*",
        "Leave it out: this version does not support it",
    ),
)
"""Pattern of a whole name -> what to do, for names without a single corresponding field."""

_ATTENTION = {"flash_attention_2": "flash", "flash_attention_3": "flash", "fa2": "flash", "flash_attn": "flash", "auto": "sdpa"}
_LINEAR = {"all": ["all-linear"], "all-linear": ["all-linear"], "true": ["all-linear"]}
TRANSLATED: Mapping[str, Mapping[str, Any]] = {
    "spec.task": {
        "pt": "pretrain",
        "pretraining": "pretrain",
        "instruct": "sft",
        "finetune": "sft",
        "fine-tuning": "sft",
        "classification": "classify",
        "seq_cls": "classify",
    },
    "spec.model.attention": {**_ATTENTION, "true": "flash", "false": "sdpa"},
    "spec.peft.method": {"qlora": "lora", "true": "lora", "full": None, "none": None, "false": None},
    "spec.peft.targetModules": _LINEAR,
    "spec.training.precision": {"true": "bf16", "bfloat16": "bf16", "float32": "fp32", "no": "fp32", "false": "fp32", "auto": "bf16"},
    "spec.training.optimizer.name": dict.fromkeys(
        ("adam", "adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_8bit", "adamw_bnb_8bit", "adamw_torch_8bit", "paged_adamw_8bit"),
        "adamw",
    ),
    "spec.training.schedule.name": {
        "constant_with_warmup": "constant",
        "cosine_with_min_lr": "cosine",
        "warmup_stable_decay": "wsd",
        "cosine_with_restarts": "cosineRestarts",
    },
    "spec.training.activationCheckpointing": {"true": "full", "false": "none", "unsloth": "full", "selective": "full"},
    "spec.checkpoint.resume": {"true": "latest", "false": "none"},
    "format": {
        "chat_template": "messages",
        "chat": "messages",
        "openai": "messages",
        "instruction": "promptCompletion",
        "completion": "text",
        "pretrain": "text",
    },
}
"""Field -> values in other trainers -> values here; None means that the field is left out."""


def bare(name: str) -> str:
    """The name in lower case without word breaks: max_steps, max-steps and maxSteps are equal."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def field_of(section: Path, name: str) -> Path | None:
    """The field for a name of another trainer; fields of the same section come first."""
    names = INSIDE.get(next((str(step) for step in reversed(section) if not isinstance(step, int)), ""), {})
    if inside := names.get(bare(name)):
        return (*section, *inside.split("."))
    found = FIELDS.get(bare(name))
    return tuple(found.split(".")) if found else None


def saying(name: str) -> str | None:
    """What to do about a name without a single corresponding field; None if unknown."""
    return next((way_out for pattern, way_out in SAYINGS if re.fullmatch(pattern, bare(name))), None)


def translated(target: Path, value: Any) -> Any:
    """The value for this manifest; the value itself if it needs no translation."""
    words = TRANSLATED.get("format" if target[-1] == "format" else ".".join(map(str, target)), {})
    return words.get(str(value).lower(), value) if isinstance(value, (str, bool)) else value
