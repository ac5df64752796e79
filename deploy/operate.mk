# What an operator does, each a thin wrapper of `slipway` or kubectl. MODEL=, VERSION= and the like
# are checked before anything else. ON=cluster runs a command in the platform on the cluster.
.PHONY: deploy-staging deploy-prod deploy-all export-model verify-onnx-conversion model-deploy
.PHONY: materialize batch-predict test-local-cluster

KUBECTL ?= kubectl
# As kubernetes.namespace in serving_config/platform.yaml.
NAMESPACE ?= slipway
TREE := $(or $(SLIPWAY_HOME),.slipway)/kubernetes
RUN = $(if $(filter cluster,$(ON)),$(KUBECTL) -n $(NAMESPACE) exec deployment/code-server -- slipway,$(SLIPWAY))
# Nothing is installed here for a command that runs there.
HERE := $(if $(filter cluster,$(ON)),,$(PLATFORM))

# A prerequisite, so that it comes before an installation.
need-%:
	@$(if $($*),:,$(error $*= is missing, as in: $(EXAMPLE_$(firstword $(MAKECMDGOALS)))))

##@ Models (ON=cluster: in the platform on the cluster)
EXAMPLE_export-model := make export-model MODEL=iris VERSION=3
export-model: need-MODEL $(HERE) ## export a version to ONNX, deploy nothing: MODEL= [VERSION=]
	@$(RUN) verify $(MODEL) $(if $(VERSION),--version $(VERSION)) --export-only

EXAMPLE_verify-onnx-conversion := make verify-onnx-conversion MODEL=iris VERSION=3
verify-onnx-conversion: need-MODEL $(HERE) ## export, and prove the graph equal to the trained model: MODEL= [VERSION=]
	@$(RUN) verify $(MODEL) $(if $(VERSION),--version $(VERSION))

EXAMPLE_model-deploy := make model-deploy MODEL=iris VERSION=3 ENVIRONMENT=staging
model-deploy: need-MODEL $(HERE) ## through staging to production, or to staging only: MODEL= [VERSION=] [ENVIRONMENT=staging]
	@$(RUN) release $(MODEL) $(if $(VERSION),--version $(VERSION)) $(if $(ENVIRONMENT),--environment $(ENVIRONMENT))

materialize: $(HERE) ## bring features into the online store: [VIEWS="customer_profile …"]
	@$(RUN) materialize $(VIEWS)

EXAMPLE_batch-predict := make batch-predict MODEL=iris INPUT=flowers.parquet OUTPUT=scored
batch-predict: need-MODEL need-INPUT need-OUTPUT $(HERE) ## score a table: MODEL= INPUT= OUTPUT= [VERSION=]
	@$(RUN) batch-predict $(MODEL) --input '$(INPUT)' --output '$(OUTPUT)' $(if $(VERSION),--version $(VERSION))

##@ On a cluster (docs/kubernetes.md)
# Into a folder of its own: what is committed has no registry and no tag.
define deploy
	@$(BIN)/python -m deploy.kubernetes $(TREE) $(if $(REGISTRY),--registry $(REGISTRY)) $(if $(TAG),--tag $(TAG))
	$(KUBECTL) apply --server-side --field-manager slipway --kustomize $(TREE)/overlays/$(1)
	$(KUBECTL) -n $(NAMESPACE) wait --for condition=Available --timeout 600s deployment --all
endef

deploy-staging: $(PLATFORM) ## the platform, and staging's namespace: [REGISTRY=ghcr.io/me] [TAG=1.2]
	$(call deploy,staging)

deploy-prod: $(PLATFORM) ## the platform, and production's namespace: [REGISTRY=] [TAG=]
	$(call deploy,production)

deploy-all: deploy-staging deploy-prod ## both, staging first: [REGISTRY=] [TAG=]

test-local-cluster: ## make test-kubernetes, on a cluster that kind or k3d makes for it and takes away
	@deploy/kubernetes/local_cluster.sh
